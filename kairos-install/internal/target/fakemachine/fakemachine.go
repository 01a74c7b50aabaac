// Package fakemachine makes machines out of files for tests: a sysfs, a procfs, a
// devtmpfs and EFI variables as the kernel lays them out.
package fakemachine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/target"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
)

// Machine is one. Its methods panic when files cannot be made.
type Machine struct {
	Dir     string
	Swaps   string           // lines of /proc/swaps behind the first
	Claimed map[string]error // what claiming a disk says

	minor  int
	mounts strings.Builder
}

// New makes a machine without disks in an empty directory.
func New(dir string) *Machine {
	m := &Machine{Dir: dir, Claimed: map[string]error{}}
	for _, d := range []string{"sys/class/block", "sys/dev/block", "dev/mapper", "proc/self", "efivars"} {
		must(os.MkdirAll(filepath.Join(m.Dir, d), 0o755))
	}
	return m
}

// System writes procfs and returns the machine.
func (m *Machine) System() target.System {
	m.File("proc/self/mountinfo", m.mounts.String())
	m.File("proc/swaps", "Filename Type Size Used Priority\n"+m.Swaps)
	return target.System{
		Disk:  disk.System{Sys: m.Dir + "/sys", Dev: m.Dir + "/dev", Vars: efivars.At(m.Dir + "/efivars")},
		Proc:  m.Dir + "/proc",
		Claim: func(node string) error { return m.Claimed[filepath.Base(node)] },
	}
}

// Device makes a block device at a place of the device tree. Attributes have
// the form "name=value".
func (m *Machine) Device(place, devtype string, mib int64, attributes ...string) {
	name := filepath.Base(place)
	m.minor++
	number := fmt.Sprintf("254:%d", m.minor)
	m.File(filepath.Join("sys/devices", place, "uevent"), "DEVNAME="+name+"\nDEVTYPE="+devtype+"\n")
	m.File(filepath.Join("sys/devices", place, "size"), fmt.Sprintf("%d\n", mib*2048))
	m.File(filepath.Join("sys/devices", place, "dev"), number+"\n")
	for _, a := range attributes {
		key, value, _ := strings.Cut(a, "=")
		m.File(filepath.Join("sys/devices", place, key), value+"\n")
	}
	m.Link("../../devices/"+place, "sys/class/block/"+name)
	m.Link("../../devices/"+place, "sys/dev/block/"+number)
	m.File("dev/"+name, "")
}

// Disk makes a virtio disk with partitions: "label:MiB".
func (m *Machine) Disk(name string, mib int64, partitions ...string) {
	place := "pci0000:00/virtio0/block/" + name
	m.Device(place, "disk", mib, "ro=0", "removable=0", "device/vendor=0x1af4")
	for i, p := range partitions {
		label, size, _ := strings.Cut(p, ":")
		var partMiB int64
		fmt.Sscan(size, &partMiB)
		m.Device(fmt.Sprintf("%s/%s%d", place, name, i+1), "partition", partMiB)
		m.File(fmt.Sprintf("sys/devices/%s/%s%d/uevent", place, name, i+1),
			fmt.Sprintf("DEVTYPE=partition\nPARTN=%d\nPARTNAME=%s\nPARTUUID=%s-%d\n", i+1, label, name, i+1))
	}
}

// Mount adds a line to mountinfo; device is the kernel's name, or "" with a
// source of another kind.
func (m *Machine) Mount(device, point, fstype, source string) {
	number := "0:40"
	if device != "" {
		data, err := os.ReadFile(filepath.Join(m.Dir, "sys/class/block", device, "dev"))
		must(err)
		number = strings.TrimSpace(string(data))
	}
	fmt.Fprintf(&m.mounts, "20 1 %s / %s rw,relatime shared:1 - %s %s rw\n", number, point, fstype, source)
}

// Hold stacks upper on lower, as the kernel shows it on both.
func (m *Machine) Hold(lower, upper string) {
	m.File(fmt.Sprintf("sys/class/block/%s/holders/%s", lower, upper), "")
	m.File(fmt.Sprintf("sys/class/block/%s/slaves/%s", upper, lower), "")
}

// File writes a file, with the directories above it.
func (m *Machine) File(name, content string) {
	full := filepath.Join(m.Dir, name)
	must(os.MkdirAll(filepath.Dir(full), 0o755))
	must(os.WriteFile(full, []byte(content), 0o644))
}

// Link makes a symbolic link.
func (m *Machine) Link(target, name string) { must(os.Symlink(target, filepath.Join(m.Dir, name))) }

// Loader says which partition the boot loader came from.
func (m *Machine) Loader(partUUID string) {
	value := []byte{6, 0, 0, 0}
	for _, c := range strings.ToUpper(partUUID) {
		value = append(value, byte(c), 0)
	}
	m.File("efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", string(append(value, 0, 0)))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
