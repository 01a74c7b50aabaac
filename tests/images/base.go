package images

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/tree"
	"github.com/kairos-io/toolkit/tests/workspace"
)

//go:embed recipe/base.packages
var basePackages string

//go:embed recipe/base.sh
var baseScript string

//go:embed recipe/dracut.conf
var dracutConf string

// baseExcludes are the paths that no package may install: what no test uses. Each megabyte is written, hashed and
// verified many times by an emulated processor. Without these 258 MB are left of 357.
var baseExcludes = []string{
	"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
	"/usr/share/bash-completion/*", "/usr/share/lintian/*",
	// Perl comes with git. What Debian's own scripts use is in perl-base.
	"/usr/lib/x86_64-linux-gnu/perl/*", "/usr/share/perl/*",
	"/usr/bin/scalar", "/usr/bin/git-shell", "/usr/lib/git-core/scalar", "/usr/lib/git-core/git-shell", "/usr/lib/git-core/git-daemon",
	"/usr/lib/git-core/git-imap-send", "/usr/lib/git-core/git-http-push", "/usr/lib/git-core/git-http-fetch", "/usr/lib/git-core/git-http-backend",
	"/usr/lib/git-core/git-sh-i18n--envsubst",
	"/usr/lib/x86_64-linux-gnu/gconv/*", "/usr/lib/udev/hwdb.d/*",
}

// base is layer 1: Debian with a kernel, as a tree and as a layer.
type base struct {
	tree   string // a directory, never changed after it was made
	layer  oci.Layer
	extra  string // the file of the extra package
	kernel string // the version, as the folder beneath /usr/lib/modules is named
}

func buildBase(ctx context.Context, report func(string)) (base, error) {
	key := hashOf(basePackages, baseScript, dracutConf, strings.Join(baseExcludes, " "), extraPackage)
	dir, err := cached("base-"+key, func(dir string) error {
		report("installing the base packages (mmdebstrap)")
		return makeBase(ctx, dir)
	})
	if err != nil {
		return base{}, fmt.Errorf("build the base layer: %w", err)
	}
	layer, err := oci.OpenLayer(filepath.Join(dir, "layer"))
	if err != nil {
		return base{}, err
	}
	b := base{tree: filepath.Join(dir, "tree"), layer: layer, extra: filepath.Join(dir, "extra.deb")}
	b.kernel, err = kernelOf(b.tree)
	return b, err
}

func makeBase(ctx context.Context, dir string) error {
	root := filepath.Join(dir, "tree")
	sources, err := mirror(ctx, "trixie")
	if err != nil {
		return err
	}
	if err := debian(ctx, dir, packageNames(basePackages), "trixie", root, sources...); err != nil {
		return err
	}
	_, err = oci.CreateLayer(filepath.Join(dir, "layer"), "base packages", func(w io.Writer) error {
		return tree.WriteDiff(w, "", root, epoch)
	})
	return err
}

// debian installs packages to the tree root, with its recipe and the extra package in dir. The last
// arguments are mmdebstrap's: suite, root and lines of sources.list, none of which means mmdebstrap's own.
func debian(ctx context.Context, dir string, packages []string, suite, root string, sources ...string) error {
	script := filepath.Join(dir, "base.sh")
	if err := os.WriteFile(script, []byte(baseScript), 0o755); err != nil {
		return err
	}
	args := []string{
		"INITRD=No", // the initrd is made later, with the toolkit in it
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()),
		"mmdebstrap", "--quiet", "--mode=root", "--variant=minbase",
		"--include=" + strings.Join(packages, ","),
		"--aptopt=" + workspace.Cache("fetch.conf"),
		fmt.Sprintf("--customize-hook=%s \"$1\" %s %s/extra.deb", script, extraPackage, dir),
	}
	for _, path := range baseExcludes {
		args = append(args, "--dpkgopt=path-exclude="+path)
	}
	cmd := workspace.Tool(ctx, "env", append(append(args, suite, root), sources...)...)
	cmd.Env = append(os.Environ(), "KAIROS_TOOLS_TMP=own")
	if _, err := workspace.Run(cmd); err != nil {
		return err
	}
	// What is mounted there while mmdebstrap runs is no part of the image.
	for _, name := range []string{"dev", "run", "tmp"} {
		if err := empty(filepath.Join(root, name)); err != nil {
			return err
		}
	}
	conf := filepath.Join(root, "etc/dracut.conf.d/50-node.conf")
	return os.WriteFile(conf, []byte(dracutConf), 0o644)
}

// mirror returns the lines of sources.list for a suite of Debian, from the mirror of this machine: the
// suite's own first.
func mirror(ctx context.Context, suite string) ([]string, error) {
	out, err := workspace.Run(exec.CommandContext(ctx, filepath.Join(workspace.Top(), "tests", "mirror"), suite))
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(out, func(r rune) bool { return r == '\n' }), nil
}

// empty removes all that a directory holds.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// packageNames returns the lines of list that are not comments.
func packageNames(list string) []string {
	var names []string
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names
}

// kernelOf returns the version of the one kernel in a tree.
func kernelOf(root string) (string, error) {
	found, err := filepath.Glob(filepath.Join(root, "usr/lib/modules/*/vmlinuz"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s has %d kernels, not one", root, len(found))
	}
	return filepath.Base(filepath.Dir(found[0])), nil
}
