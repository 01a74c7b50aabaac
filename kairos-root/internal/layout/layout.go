// Package layout describes which paths of the running system are writable: defaults,
// and the additions of a node's config in the layout files of the stage rootfs
// (kairos-root(8), "Layout files").
package layout

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/disk"
)

// Layout describes which paths are writable, and how.
type Layout struct {
	Ephemeral   []string // directories whose changes are lost at a reboot
	Persistent  []string // directories whose changes are kept on COS_PERSISTENT
	Volumes     []Volume // additional file systems
	OverlaySize string   // size limit of ephemeral changes, in the form of tmpfs(5): "25%", "512m"
	StateDir    string   // directory on COS_PERSISTENT for persistent directories
}

// Volume is a file system that is mounted by its label or UUID.
type Volume struct {
	Source string // LABEL=…, PARTLABEL=…, UUID=…, PARTUUID=… or /dev/…
	Target string // absolute path
}

// Default returns the layout of a node without config.
func Default() Layout {
	return Layout{
		Ephemeral:   []string{"/etc", "/var", "/srv"},
		Persistent:  persistent(),
		OverlaySize: "25%",
		StateDir:    ".state",
	}
}

// persistent is Kairos' default list, on which workloads rely.
func persistent() []string {
	var all []string
	for dir, names := range map[string]string{
		"/etc": "cni init.d iscsi k0s kubernetes modprobe.d pwx rancher runlevels ssh ssl/certs sysconfig systemd zfs",
		"/":    "home opt root",
		"/usr": "libexec",
		"/var": "log cores",
		"/var/lib": "ca-certificates cni containerd calico dbus etcd extensions confexts k0s kubelet longhorn osd " +
			"rancher rook tailscale wicked kairos",
	} {
		for name := range strings.FieldsSeq(names) {
			all = append(all, path.Join(dir, name))
		}
	}
	slices.Sort(all)
	return all
}

// Add adds the variables of a layout file to the layout. It skips invalid values and
// returns them as an error, for the log: a mistake in one line must not disable the
// other paths.
func (l *Layout) Add(file string, data []byte) error {
	vars, failed := Parse(data)
	for _, v := range vars {
		if err := l.add(v); err != nil {
			failed = errors.Join(failed, fmt.Errorf("line %d: %s: %w", v.Line, v.Name, err))
		}
	}
	if failed != nil {
		return fmt.Errorf("read %s: %w", file, failed)
	}
	return nil
}

func (l *Layout) add(v Variable) error {
	switch v.Name {
	case "RW_PATHS", "CUSTOM_EPHEMERAL_MOUNTS":
		return addPaths(&l.Ephemeral, v.Value)
	case "PERSISTENT_STATE_PATHS", "CUSTOM_BIND_MOUNTS":
		return addPaths(&l.Persistent, v.Value)
	case "VOLUMES":
		return l.addVolumes(v.Value)
	case "OVERLAY":
		return l.setOverlay(v.Value)
	case "PERSISTENT_STATE_TARGET":
		return l.setStateDir(v.Value)
	case "PERSISTENT_STATE_BIND":
		// Whether a path is bound or overlaid follows from what it holds.
		return nil
	}
	return errors.New("unknown variable")
}

// addPaths adds a list of absolute paths, separated by white space.
func addPaths(list *[]string, value string) error {
	var failed error
	for p := range strings.FieldsSeq(value) {
		clean, err := cleanPath(p)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if !slices.Contains(*list, clean) {
			*list = append(*list, clean)
		}
	}
	return failed
}

// own are the volumes of Kairos' default layout, which are always mounted.
var own = map[string]string{
	"LABEL=" + disk.LabelOEM:        "/oem",
	"LABEL=" + disk.LabelPersistent: "/usr/local",
}

func (l *Layout) addVolumes(value string) error {
	var failed error
	for entry := range strings.FieldsSeq(value) {
		source, target, ok := strings.Cut(entry, ":")
		// Mount options behind a second colon are Kairos': they are not needed.
		target, _, _ = strings.Cut(target, ":")
		if own[source] == path.Clean(target) {
			continue
		}
		if !ok {
			failed = errors.Join(failed, fmt.Errorf("volume %q: want SOURCE:PATH", entry))
			continue
		}
		clean, err := cleanPath(target)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("volume %q: %w", entry, err))
			continue
		}
		if source, err = cleanSource(source); err != nil {
			failed = errors.Join(failed, fmt.Errorf("volume %q: %w", entry, err))
			continue
		}
		v := Volume{source, clean}
		if !slices.Contains(l.Volumes, v) {
			l.Volumes = append(l.Volumes, v)
		}
	}
	return failed
}

// cleanSource validates the source of a volume.
func cleanSource(source string) (string, error) {
	if strings.HasPrefix(source, "/dev/") && path.Clean(source) == source {
		return source, nil
	}
	key, value, ok := strings.Cut(source, "=")
	if !ok || value == "" || strings.Contains(value, "/") || value == "." || value == ".." {
		return "", errors.New("want LABEL=, PARTLABEL=, UUID=, PARTUUID= or a device")
	}
	switch key {
	case "LABEL", "PARTLABEL", "UUID", "PARTUUID":
		return source, nil
	}
	return "", errors.New("want LABEL=, PARTLABEL=, UUID=, PARTUUID= or a device")
}

// setOverlay parses tmpfs:SIZE, where SIZE is a percentage of the memory or a number of
// bytes with an optional k, m or g.
func (l *Layout) setOverlay(value string) error {
	size, ok := strings.CutPrefix(value, "tmpfs:")
	if !ok {
		return fmt.Errorf("%q: only tmpfs:SIZE is supported", value)
	}
	number := strings.TrimRight(size, "%kKmMgG")
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || len(size)-len(number) > 1 || strings.HasSuffix(size, "%") && n > 100 {
		return fmt.Errorf("%q: want tmpfs:25%% or tmpfs:512m", value)
	}
	l.OverlaySize = size
	return nil
}

// setStateDir sets a directory beneath /usr/local, where COS_PERSISTENT is mounted.
func (l *Layout) setStateDir(value string) error {
	rest, ok := strings.CutPrefix(path.Clean(value), "/usr/local/")
	if !ok || !path.IsAbs(value) {
		return fmt.Errorf("%q: must be beneath /usr/local", value)
	}
	l.StateDir = rest
	return nil
}

// Allows reports whether a path may be in a list of paths.
func Allows(p string) bool {
	_, err := cleanPath(p)
	return err == nil
}

// cleanPath validates a path of a list. It refuses paths that would break the system:
// the root itself, the image's programs as a whole, and directories of the kernel or
// systemd.
func cleanPath(p string) (string, error) {
	if !path.IsAbs(p) {
		return "", fmt.Errorf("path %q: must be absolute", p)
	}
	clean := path.Clean(p)
	first, _, deeper := strings.Cut(clean[1:], "/")
	switch first {
	case "":
		return "", errors.New("path /: the root stays read-only")
	case "dev", "proc", "sys", "run", "sysroot", "boot", "efi", "oem":
		return "", fmt.Errorf("path %q: belongs to the system", p)
	case "usr":
		if !deeper || clean == "/usr/bin" || clean == "/usr/lib" || clean == "/usr/sbin" {
			return "", fmt.Errorf("path %q: the image's programs stay read-only", p)
		}
		if clean == "/usr/local" {
			return "", fmt.Errorf("path %q: is where %s is, always", p, disk.LabelPersistent)
		}
	}
	return clean, nil
}
