// Package disk finds this machine's partitions by their labels, first on the disk that
// the firmware booted from.
//
// That disk is the one with the partition LoaderDevicePartUUID: a second disk with the
// same labels is never used by mistake. Partition labels and UUIDs come from the kernel
// (uevent in sysfs); UUIDs that an older kernel does not export are read from the GPT.
// Nothing waits for udev.
package disk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/efivars"
)

// Labels of the partitions in Kairos: both the GPT partition label and the file system
// label.
const (
	LabelESP        = "COS_GRUB"
	LabelOEM        = "COS_OEM"
	LabelRecovery   = "COS_RECOVERY"
	LabelState      = "COS_STATE"
	LabelPersistent = "COS_PERSISTENT"
	LabelLive       = "COS_LIVE"
	LabelSeed       = "COS_SEED" // configs of a live medium
)

// ErrNotFound is returned when no partition carries the label.
var ErrNotFound = errors.New("no such partition")

// Partition is one partition of a disk.
type Partition struct {
	Name   string // the kernel's name: vda1
	Path   string // the device node: /dev/vda1
	Disk   string // the kernel's name of its disk: vda
	Label  string // GPT partition label
	UUID   string // GPT partition UUID, lower case; "" where unknown
	Number int    // partition number from 1
	Size   int64  // bytes
}

// System is where this package reads block devices and variables of the boot loader.
type System struct {
	Sys  string // mount point of a sysfs
	Dev  string // mount point of a devtmpfs, with udev's links
	Vars efivars.Vars
}

// Local returns the running machine.
func Local() System { return System{Sys: "/sys", Dev: "/dev", Vars: efivars.System()} }

// Partitions returns all partitions, sorted by disk and number.
func (s System) Partitions() ([]Partition, error) {
	class := filepath.Join(s.Sys, "class/block")
	devices, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	tables := map[string]map[int]string{}
	var partitions []Partition
	for _, d := range devices {
		p, ok := s.partition(class, d.Name())
		if !ok {
			continue
		}
		if p.UUID == "" { // Linux before 6.13 does not tell
			if _, read := tables[p.Disk]; !read {
				tables[p.Disk] = s.gpt(p.Disk)
			}
			p.UUID = tables[p.Disk][p.Number]
		}
		partitions = append(partitions, p)
	}
	slices.SortFunc(partitions, func(a, b Partition) int {
		if c := strings.Compare(a.Disk, b.Disk); c != 0 {
			return c
		}
		return a.Number - b.Number
	})
	return partitions, nil
}

// partition reads one device in sysfs; ok is false when it is no partition or has
// disappeared meanwhile.
func (s System) partition(class, name string) (p Partition, ok bool) {
	real, err := filepath.EvalSymlinks(filepath.Join(class, name))
	if err != nil {
		return p, false
	}
	props := properties(filepath.Join(real, "uevent"))
	if props["DEVTYPE"] != "partition" {
		return p, false
	}
	p = Partition{
		Name:  name,
		Path:  filepath.Join(s.Dev, name),
		Disk:  filepath.Base(filepath.Dir(real)),
		Label: props["PARTNAME"],
		UUID:  strings.ToLower(props["PARTUUID"]),
	}
	p.Number, _ = strconv.Atoi(props["PARTN"])
	if size, err := os.ReadFile(filepath.Join(real, "size")); err == nil {
		sectors, _ := strconv.ParseInt(strings.TrimSpace(string(size)), 10, 64)
		p.Size = sectors * 512
	}
	return p, true
}

// properties parses KEY=VALUE lines.
func properties(file string) map[string]string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	props := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			props[key] = value
		}
	}
	return props
}

// BootPartition returns the partition from which the firmware started the boot loader.
// Errors: ErrNotFound when the kernel sees no such partition now, efivars.ErrNotSet
// when the boot loader did not set the variable.
func (s System) BootPartition() (Partition, error) {
	uuid, err := s.Vars.DevicePartUUID()
	if err != nil {
		return Partition{}, err
	}
	all, err := s.Partitions()
	if err != nil {
		return Partition{}, err
	}
	for _, p := range all {
		if p.UUID == uuid {
			return p, nil
		}
	}
	return Partition{}, fmt.Errorf("partition %s, from which the boot loader was started: %w", uuid, ErrNotFound)
}

// Find returns the partition with a label: the one on the boot disk or, when the boot
// disk is unknown or has none, the only one on any disk. Several on other disks are an
// error, since a guess could take another machine's data.
func (s System) Find(label string) (Partition, error) {
	boot, err := s.BootPartition()
	switch {
	case err == nil:
		if p, err := s.FindOn(boot.Disk, label); err == nil {
			return p, nil
		}
	case !errors.Is(err, efivars.ErrNotSet):
		return Partition{}, fmt.Errorf("find %s: %w", label, err)
	}
	all, err := s.Partitions()
	if err != nil {
		return Partition{}, err
	}
	var found []Partition
	for _, p := range all {
		if p.Label == label {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return Partition{}, fmt.Errorf("find %s on any disk: %w", label, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return Partition{}, fmt.Errorf("find %s: on %s and on %s, and the boot loader does not name its disk",
		label, found[0].Path, found[1].Path)
}

// FindOn returns the partition with a label on one disk, given by the kernel's
// name.
func (s System) FindOn(disk, label string) (Partition, error) {
	all, err := s.Partitions()
	if err != nil {
		return Partition{}, err
	}
	for _, p := range all {
		if p.Disk == disk && p.Label == label {
			return p, nil
		}
	}
	return Partition{}, fmt.Errorf("find %s on %s: %w", label, disk, ErrNotFound)
}
