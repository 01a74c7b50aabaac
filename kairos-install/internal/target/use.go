package target

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/deployment"
)

// Use is a use of a disk that prevents an installation.
type Use struct {
	Device string // the used device: the disk, a partition, or a device stacked on them
	How    string // "mounted at /mnt", "swap", "held by md0"
	// Running says that the running system needs the disk: its root, its store, or the
	// partition of its boot loader.
	Running bool
}

func (u Use) String() string { return u.Device + " " + u.How }

// running are the mount points on the disk of the running system. The root of an
// image-based system is an overlay without a device: its store and its medium are
// checked instead.
var running = []string{"/", "/usr", "/boot", "/boot/efi", "/efi", deployment.StoreMount, "/run/kairos/private/store", "/run/initramfs/live", "/run/live/medium"}

// Uses returns the uses of disks, by the disk's kernel name.
func (s System) Uses() (map[string][]Use, error) {
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	uses := map[string][]Use{}
	add := func(device string, u Use) {
		u.Device = device
		for _, d := range s.bases(device, mounts) {
			if !slices.Contains(uses[d], u) {
				uses[d] = append(uses[d], u)
			}
		}
	}
	for _, m := range mounts {
		if device := s.device(m); device != "" {
			add(device, Use{How: "is mounted at " + m.point, Running: slices.Contains(running, m.point)})
		}
	}
	if err := s.swaps(mounts, add); err != nil {
		return nil, err
	}
	if err := s.holders(add); err != nil {
		return nil, err
	}
	// The live medium's boot partition need not be mounted.
	if boot, err := s.Disk.BootPartition(); err == nil {
		add(boot.Name, Use{How: "has the running system's boot loader", Running: true})
	}
	return uses, nil
}

func (s System) mounts() ([]mount, error) {
	f, err := os.Open(filepath.Join(s.Proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	mounts, err := parseMounts(f)
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return mounts, nil
}

func (s System) swaps(mounts []mount, add func(string, Use)) error {
	f, err := os.Open(filepath.Join(s.Proc, "swaps"))
	if os.IsNotExist(err) {
		return nil // a kernel without swap
	}
	if err != nil {
		return fmt.Errorf("read swaps: %w", err)
	}
	defer f.Close()
	swaps, err := parseSwaps(f)
	if err != nil {
		return fmt.Errorf("read swaps: %w", err)
	}
	for _, path := range swaps {
		if name := s.nodeName(path); name != "" {
			add(name, Use{How: "is used as swap"})
		} else if m, ok := mountOf(path, mounts); ok && s.device(m) != "" {
			add(s.device(m), Use{How: "holds the swap file " + path})
		}
	}
	return nil
}

// holders adds the devices that are stacked on disks and partitions: device-mapper,
// RAID, bcache. Multipath holds its paths too.
func (s System) holders(add func(string, Use)) error {
	class := filepath.Join(s.Disk.Sys, "class/block")
	names, err := os.ReadDir(class)
	if err != nil {
		return fmt.Errorf("list block devices: %w", err)
	}
	for _, n := range names {
		held, _ := os.ReadDir(filepath.Join(s.sysdir(n.Name()), "holders"))
		for _, h := range held {
			what := h.Name()
			if mapped := attribute(s.sysdir(what), "dm/name"); mapped != "" {
				what = fmt.Sprintf("%s (%s)", what, mapped)
			}
			add(n.Name(), Use{How: "is held by " + what})
		}
	}
	return nil
}

// device returns the kernel's name of the block device of a mount, "" when it has none.
// File systems on several devices (btrfs) report an anonymous number; their source
// names one of them.
func (s System) device(m mount) string {
	link := filepath.Join(s.Disk.Sys, "dev/block", m.dev)
	if real, err := filepath.EvalSymlinks(link); err == nil {
		return filepath.Base(real)
	}
	return s.nodeName(m.source)
}

// nodeName returns the kernel's name of the block device at a path, "" when it is none.
func (s System) nodeName(path string) string {
	under, ok := strings.CutPrefix(path, "/dev/")
	if !ok {
		return ""
	}
	real, err := filepath.EvalSymlinks(filepath.Join(s.Disk.Dev, under))
	if err != nil {
		return ""
	}
	name, err := filepath.Rel(s.Disk.Dev, real)
	if err != nil || s.devtype(name) == "" {
		return ""
	}
	return name
}

// bases returns the disks below a device, including itself.
func (s System) bases(device string, mounts []mount) []string {
	seen := map[string]bool{}
	var disks []string
	var walk func(name string)
	walk = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		dir := s.sysdir(name)
		if s.devtype(name) == "partition" {
			walk(filepath.Base(filepath.Dir(dir)))
			return
		}
		disks = append(disks, name)
		below, _ := os.ReadDir(filepath.Join(dir, "slaves"))
		for _, b := range below {
			walk(b.Name())
		}
		if file := attribute(dir, "loop/backing_file"); file != "" {
			if under := s.nodeName(file); under != "" {
				walk(under)
			} else if m, ok := mountOf(file, mounts); ok && s.device(m) != "" {
				walk(s.device(m))
			}
		}
	}
	walk(device)
	return disks
}

// mountOf returns the mount that contains a path: the last one of the longest mount
// point.
func mountOf(path string, mounts []mount) (best mount, ok bool) {
	for _, m := range mounts {
		prefix := strings.TrimSuffix(m.point, "/") + "/"
		if (path == m.point || strings.HasPrefix(path, prefix)) && len(m.point) >= len(best.point) {
			best, ok = m, true
		}
	}
	return best, ok
}
