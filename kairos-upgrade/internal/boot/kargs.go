package boot

import (
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/kernelargs"
)

// kargsDir is where images bring kernel arguments: bootc-kargs.d.
const kargsDir = "usr/lib/bootc/kargs.d"

// kargsFile is the format of bootc's kargs.d files.
type kargsFile struct {
	Kargs         []string `toml:"kargs"`
	Architectures []string `toml:"match-architectures"`
}

// Kargs returns an image's kernel arguments for this architecture, in the order of file
// names. An unreadable file, an unknown key and a reserved argument are errors: an
// image must not boot with some of its arguments missing.
func Kargs(root *tree.Inode, content Content) ([]string, error) {
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

func readKargs(n *tree.Inode, content Content) ([]string, error) {
	r, err := content(n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := bounded.Read(r, maxText)
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
		if err := checkImageKarg(arg); err != nil {
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

// ErrKarg says that a text is no permitted kernel argument.
var ErrKarg = errors.New("not acceptable as a kernel argument")

// reserved are the arguments that say what is booted and where from; only a
// deployment sets them. The EFI stub of the kernel reads initrd= and dtb= itself.
var reserved = []string{
	"kairos.image", "kairos.store", "kairos.crypt", "rd.systemd.gpt_auto",
	"root", "roothash", "usrhash", "init", "rdinit", "initrd", "dtb",
}

// ofImage are the arguments of kairos.* that an image may bring along; others say
// what belongs to the node, such as where its config comes from.
var ofImage = []string{"kairos.debug", "kairos.timeout", "kairos.reboot_delay"}

// shells open a shell that asks nobody for a password, or run a command as root.
// A node's owner may want that for one boot, no image does for all of them.
var shells = []string{
	"rd.kairos.shell", "rd.break", "rd.shell", "rd.systemd.debug_shell", "systemd.debug_shell",
	"rescue", "emergency", "single", "s", "S", "1",
}

// CheckKarg returns ErrKarg, wrapped, for text that can't be given as a kernel
// argument of the node: it is empty or unprintable, would change the meaning of
// arguments beside it, or holds one that belongs to the deployment. It is read as
// the kernel does: text with a space in it is two arguments.
func CheckKarg(text string) error {
	if err := kernelargs.Check(text); err != nil {
		return fmt.Errorf("%q: %w: %w", text, ErrKarg, err)
	}
	for word := range kernelargs.Words(text) {
		if name, _, _ := kernelargs.Cut(word); slices.Contains(reserved, name) {
			return fmt.Errorf("%q: %w: set by the deployment itself", word, ErrKarg)
		}
	}
	return nil
}

// CheckImageKargs returns ErrKarg, wrapped, for kernel arguments that Kargs does
// not return.
func CheckImageKargs(kargs []string) error {
	for _, arg := range kargs {
		if err := checkImageKarg(arg); err != nil {
			return err
		}
	}
	return nil
}

// checkImageKarg is CheckKarg for the arguments that an image brings along, which
// decide less.
func checkImageKarg(text string) error {
	if err := CheckKarg(text); err != nil {
		return err
	}
	for word := range kernelargs.Words(text) {
		name, _, _ := kernelargs.Cut(word)
		switch {
		case strings.HasPrefix(name, "kairos.") && !slices.Contains(ofImage, name):
			return fmt.Errorf("%q: %w: set by the node, not by an image", word, ErrKarg)
		case slices.Contains(shells, name), strings.HasPrefix(name, "systemd.run"), strings.HasPrefix(name, "rd.systemd.run"):
			return fmt.Errorf("%q: %w: an image must not open a shell or run a command with it", word, ErrKarg)
		}
	}
	return nil
}
