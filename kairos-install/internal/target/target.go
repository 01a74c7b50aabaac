// Package target lists the disks of a machine and their uses, and judges whether an
// installation may erase them.
//
// It reads sysfs and procfs and opens no device for writing. A disk is in use when it,
// one of its partitions, or anything stacked on them (LVM, LUKS, RAID, loop devices) is
// mounted, is swap, or is held.
package target

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/disk"
	"golang.org/x/sys/unix"
)

// System is the machine that is examined.
type System struct {
	Disk disk.System // its sysfs, devtmpfs and loader variables
	Proc string      // mount point of its procfs
	// Claim opens a device node exclusively and closes it again. EBUSY says that
	// another user has claimed the disk or a partition of it.
	Claim func(node string) error
}

// Local returns the running machine.
func Local() System { return System{Disk: disk.Local(), Proc: "/proc", Claim: claim} }

func claim(node string) error {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Disk is a whole block device.
type Disk struct {
	Name       string // the kernel's name: nvme0n1
	Path       string // /dev/nvme0n1
	Model      string // "" where the device has none
	Serial     string // "" where the device has none
	Size       int64  // bytes
	ReadOnly   bool
	Removable  bool
	USB        bool
	Kind       Kind
	Partitions []Partition
}

// Partition is a partition as the kernel describes it.
type Partition struct {
	Name  string // vda1
	Path  string // /dev/vda1
	Label string // GPT partition label
	Size  int64  // bytes
}

// Kind is the type of a disk.
type Kind string

const (
	Physical Kind = "disk"
	Optical  Kind = "optical drive"
	Loop     Kind = "loop device"
	Memory   Kind = "memory disk" // ram, zram
	Mapped   Kind = "device-mapper device"
	Array    Kind = "RAID array"
	Firmware Kind = "firmware area" // mmcblk0boot0
	Virtual  Kind = "virtual device"
)

// Disks returns all whole block devices with a size above 0, sorted by the kernel's
// names.
func (s System) Disks() ([]Disk, error) {
	class := filepath.Join(s.Disk.Sys, "class/block")
	names, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	parts, err := s.Disk.Partitions()
	if err != nil {
		return nil, err
	}
	var disks []Disk
	for _, n := range names {
		if s.devtype(n.Name()) != "disk" {
			continue
		}
		d := s.disk(n.Name())
		if d.Size == 0 && (d.Kind == Loop || d.Kind == Memory || d.Kind == Virtual) {
			continue // an unused slot, not a device
		}
		for _, p := range parts {
			if p.Disk == d.Name {
				d.Partitions = append(d.Partitions, Partition{p.Name, p.Path, p.Label, p.Size})
			}
		}
		disks = append(disks, d)
	}
	return disks, nil
}

func (s System) disk(name string) Disk {
	dir := s.sysdir(name)
	sectors, _ := strconv.ParseInt(attribute(dir, "size"), 10, 64)
	d := Disk{
		Name:      name,
		Path:      filepath.Join(s.Disk.Dev, name),
		Model:     cmp.Or(attribute(dir, "device/model"), attribute(dir, "device/name")),
		Serial:    cmp.Or(attribute(dir, "serial"), attribute(dir, "device/serial")),
		Size:      sectors * 512,
		ReadOnly:  attribute(dir, "ro") == "1",
		Removable: attribute(dir, "removable") == "1",
		USB:       strings.Contains(dir, "/usb"),
	}
	d.Kind = kind(name, dir)
	return d
}

// kind returns the type of a device by its driver's name and attributes.
func kind(name, dir string) Kind {
	switch {
	case strings.HasPrefix(name, "loop"):
		return Loop
	case strings.HasPrefix(name, "ram"), strings.HasPrefix(name, "zram"):
		return Memory
	case strings.HasPrefix(name, "sr"), attribute(dir, "device/type") == "5":
		return Optical
	case strings.HasPrefix(name, "dm-"):
		return Mapped
	case strings.HasPrefix(name, "md"):
		return Array
	case strings.HasPrefix(name, "mmcblk") && (strings.Contains(name, "boot") || strings.Contains(name, "rpmb")):
		return Firmware
	}
	if _, err := os.Stat(filepath.Join(dir, "device")); err != nil {
		return Virtual // nbd, zd, …: no hardware behind it
	}
	return Physical
}

// Find returns the disk that a path names: a device node or a link to one, such as
// those in /dev/disk/by-id.
func (s System) Find(path string) (Disk, error) {
	real, err := filepath.Abs(path)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return Disk{}, fmt.Errorf("device %s: %w", path, unwrapPath(err))
	}
	if s.Disk.Dev == "/dev" {
		if info, err := os.Stat(real); err != nil || info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
			return Disk{}, fmt.Errorf("device %s: %w", path, ErrNotBlock)
		}
	}
	name, err := filepath.Rel(s.Disk.Dev, real)
	if err != nil || s.devtype(name) == "" {
		return Disk{}, fmt.Errorf("device %s: %w", path, ErrNotBlock)
	}
	if s.devtype(name) == "partition" {
		whole := filepath.Base(filepath.Dir(s.sysdir(name)))
		return Disk{}, fmt.Errorf("device %s: %w of %s", path, ErrPartition, filepath.Join(s.Disk.Dev, whole))
	}
	disks, err := s.Disks()
	if err != nil {
		return Disk{}, err
	}
	for _, d := range disks {
		if d.Name == name {
			return d, nil
		}
	}
	return Disk{}, fmt.Errorf("device %s: nothing in it (size 0)", path)
}

// Errors of Find.
var (
	ErrNotBlock  = errors.New("not a block device")
	ErrPartition = errors.New("a partition")
)

// sysdir returns the resolved directory of a block device in sysfs.
func (s System) sysdir(name string) string {
	link := filepath.Join(s.Disk.Sys, "class/block", strings.ReplaceAll(name, "/", "!"))
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return link
	}
	return dir
}

// devtype returns what a device is, by its uevent file: "disk", "partition", or "".
func (s System) devtype(name string) string {
	f, err := os.Open(filepath.Join(s.sysdir(name), "uevent"))
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "DEVTYPE="); ok {
			return value
		}
	}
	return ""
}

// attribute returns an attribute of a device in sysfs without blanks around
// it, or "".
func attribute(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// unwrapPath removes a path from an error whose message names it already.
func unwrapPath(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
