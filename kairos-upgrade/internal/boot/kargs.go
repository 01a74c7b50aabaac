package boot

import (
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// kargsDir is where images bring kernel arguments: bootc-kargs.d.
const kargsDir = "usr/lib/bootc/kargs.d"

// kargsFile is the format of bootc's kargs.d files.
type kargsFile struct {
	Kargs         []string `toml:"kargs"`
	Architectures []string `toml:"match-architectures"`
}

// Kargs returns the kernel arguments that an image brings along for this
// architecture, in order of the names of their files. A file that can't be
// read, has unknown keys, or sets what is ours to set is an error: an image
// must not boot with half of its arguments.
func Kargs(root *tree.Node, content Content) ([]string, error) {
	dir := Resolve(root, kargsDir)
	if dir == nil {
		return nil, nil
	}
	var all []string
	for name := range dir.Children() {
		if !strings.HasSuffix(name, ".toml") {
			continue
		}
		n := file(root, path.Join(kargsDir, name))
		if n == nil {
			continue
		}
		kargs, err := readKargs(n, content)
		if err != nil {
			return nil, fmt.Errorf("kernel arguments of the image: /%s/%s: %w", kargsDir, name, err)
		}
		all = append(all, kargs...)
	}
	return all, nil
}

func readKargs(n *tree.Node, content Content) ([]string, error) {
	r, err := content(n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxText))
	if err != nil {
		return nil, err
	}
	return parseKargs(data, runtime.GOARCH)
}

func parseKargs(data []byte, arch string) ([]string, error) {
	var f kargsFile
	meta, err := toml.Decode(string(data), &f)
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("unknown key %q", unknown[0])
	}
	for _, arg := range f.Kargs {
		if err := CheckKarg(arg); err != nil {
			return nil, err
		}
	}
	if f.Architectures != nil && !slices.ContainsFunc(f.Architectures, func(a string) bool { return goarch(a) == arch }) {
		return nil, nil
	}
	return f.Kargs, nil
}

// goarch maps the names of architectures that bootc uses (Rust's) to Go's.
func goarch(name string) string {
	switch name {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "powerpc64":
		return "ppc64le"
	}
	return name
}

// ErrKarg says that something can't be given as a kernel argument.
var ErrKarg = errors.New("not acceptable as a kernel argument")

// reserved arguments say what is booted; only a deployment sets them.
var reserved = []string{"kairos.image", "kairos.store"}

// CheckKarg returns ErrKarg, wrapped, for an argument that is empty, has
// control characters, or sets what belongs to the deployment.
func CheckKarg(arg string) error {
	key, _, _ := strings.Cut(arg, "=")
	switch {
	case strings.TrimSpace(arg) == "":
		return fmt.Errorf("%q: %w: empty", arg, ErrKarg)
	case strings.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q: %w: control characters", arg, ErrKarg)
	case slices.Contains(reserved, key):
		return fmt.Errorf("%q: %w: set by the deployment itself", arg, ErrKarg)
	}
	return nil
}
