package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	programs "github.com/kairos-io/toolkit/lib/run"
	"golang.org/x/sys/unix"
)

// packager is a package manager: its programs with their arguments, all
// without questions.
type packager struct {
	program                           string // beneath the root
	refresh, install, remove, upgrade []string
	// installed succeeds for a package that is there.
	installed []string
	// pinned is how a name with its version is written.
	pinned string
}

// What is only recommended is left out, as in Kairos: an image has what it asks
// for.
var packagers = []packager{
	{"/usr/bin/apt-get", []string{"apt-get", "-q", "update"}, []string{"apt-get", "-q", "-y", "--no-install-recommends", "install"}, []string{"apt-get", "-q", "-y", "remove"}, []string{"apt-get", "-q", "-y", "upgrade"}, []string{"dpkg", "-s"}, "="},
	{"/usr/bin/dnf", []string{"dnf", "-qy", "makecache"}, []string{"dnf", "-qy", "--setopt=install_weak_deps=False", "install"}, []string{"dnf", "-qy", "remove"}, []string{"dnf", "-qy", "upgrade"}, []string{"rpm", "-q"}, "-"},
	{"/usr/bin/zypper", []string{"zypper", "-nq", "refresh"}, []string{"zypper", "-nq", "install", "--no-recommends"}, []string{"zypper", "-nq", "remove"}, []string{"zypper", "-nq", "update"}, []string{"rpm", "-q"}, "="},
	{"/usr/bin/pacman", []string{"pacman", "-Sy"}, []string{"pacman", "-S", "--noconfirm"}, []string{"pacman", "-R", "--noconfirm"}, []string{"pacman", "-Su", "--noconfirm"}, []string{"pacman", "-Q"}, "="},
	{"/sbin/apk", []string{"apk", "update"}, []string{"apk", "--no-cache", "add"}, []string{"apk", "--no-cache", "del"}, []string{"apk", "upgrade"}, []string{"apk", "info", "-e"}, "="},
}

// errPackagesReadOnly is what a node gets.
var errPackagesReadOnly = errors.New("packages cannot be changed, because the root is read-only: put them into the image")

// packager returns the package manager of a root that can be written.
func (r *run) packager() (packager, error) {
	f, err := r.Root.Sub("/usr")
	if err != nil {
		return packager{}, err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(f.Path(), &st); err != nil {
		return packager{}, fmt.Errorf("look at %s: %w", f.Path(), err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return packager{}, errPackagesReadOnly
	}
	for _, p := range packagers {
		if r.Root.Exists(p.program) {
			return p, nil
		}
	}
	return packager{}, errors.New("this root has no known package manager: apt-get, dnf, zypper, pacman or apk")
}

// packages installs and removes packages, where the root can be written: while
// an image is built.
func (r *run) packages(ctx context.Context) {
	want := r.step.Spec.Packages
	if !want.Refresh && !want.Upgrade && len(want.Install)+len(want.Remove) == 0 {
		return
	}
	for _, name := range append(append([]string{}, want.Install...), want.Remove...) {
		if name == "" || name[0] == '-' || strings.ContainsAny(name, " \t\n\x00") {
			r.fail(fmt.Errorf("packages: %q is not the name of a package", name))
			return
		}
	}
	p, err := r.packager()
	if err != nil {
		r.fail(err)
		return
	}
	pins := map[string]string{}
	for _, e := range r.step.Spec.PackagePins {
		pins[e.Key] = e.Value
	}
	if want.Refresh {
		r.fail(r.within(ctx, p.refresh))
	}
	if want.Upgrade {
		if err := r.within(ctx, p.upgrade); err != nil {
			r.fail(err)
		} else {
			r.changed("upgraded packages")
		}
	}
	r.changePackages(ctx, p.installed, "installed ", want.Install, false, p.install, func(name string) string {
		if version := pins[name]; version != "" {
			return name + p.pinned + version
		}
		return name
	})
	r.changePackages(ctx, p.installed, "removed ", want.Remove, true, p.remove, func(name string) string { return name })
}

// changePackages runs a command for the packages that are not yet as they shall
// be: for all at once, and one by one when that fails, to say which.
func (r *run) changePackages(ctx context.Context, installed []string, done string, names []string, there bool, command []string, spelt func(string) string) {
	var pending []string
	for _, name := range names {
		plain, _, _ := strings.Cut(name, "=")
		if (r.within(ctx, append(installed[:len(installed):len(installed)], plain)) == nil) == there {
			pending = append(pending, spelt(name))
		}
	}
	if len(pending) > 1 && r.within(ctx, slices.Concat(command, pending)) == nil {
		for _, name := range pending {
			r.changed(done + name)
		}
		return
	}
	for _, name := range pending {
		if err := r.within(ctx, slices.Concat(command, []string{name})); err != nil {
			r.fail(err)
			continue
		}
		r.changed(done + name)
	}
}

// within runs a program of the root beneath it.
func (r *run) within(ctx context.Context, argv []string) error {
	program := programs.Runner{Root: r.Root.Path(), Env: commandEnvironment(), Extra: []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}, Drain: drain}
	if _, err := program.Output(ctx, argv...); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// packagePins holds packages at a version: for apt, which the file is of. For
// others a pin counts only where the same step installs the package.
func (r *run) packagePins(context.Context) {
	pins := r.step.Spec.PackagePins
	if len(pins) == 0 {
		return
	}
	p, err := r.packager()
	if err != nil {
		r.fail(err)
		return
	}
	if !strings.HasSuffix(p.program, "apt-get") {
		return
	}
	text, err := preferences(pins)
	if err != nil {
		r.fail(err)
		return
	}
	const file = "/etc/apt/preferences.d/kairos-config"
	wrote, err := r.write(file, []byte(text), rootfs.KeepAll)
	r.fail(err)
	if wrote {
		r.changed(file)
	}
}

// preferences is apt_preferences(5).
func preferences(pins schema.Entries[string]) (string, error) {
	text := nativeHeader
	for _, pin := range pins {
		if pin.Key == "" || pin.Value == "" || strings.ContainsAny(pin.Key+pin.Value, " \t\n\x00") {
			return "", fmt.Errorf("package_pins: %q at %q: not a package and a version", pin.Key, pin.Value)
		}
		text += fmt.Sprintf("\nPackage: %s\nPin: version %s\nPin-Priority: 1001\n", pin.Key, pin.Value)
	}
	return text, nil
}
