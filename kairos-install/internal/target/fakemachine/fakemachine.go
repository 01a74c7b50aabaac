// Package fakemachine creates machines of files for tests: a sysfs, a procfs, a
// devtmpfs and EFI variables in the kernel's format.
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

// Machine is a machine of files. Its methods panic when files cannot be created.
type Machine struct {
	Dir     string
	Swaps   string           // lines of /proc/swaps after the first
	Claimed map[string]error // errors of claiming a disk

	minor  int
	mounts strings.Builder
}

// New creates a machine without disks in an empty directory.
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

// Device creates a block device at a place of the device tree. Attributes have the form
// "name=value".
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

// Disk creates a virtio disk with partitions: "label:MiB".
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

// Mount adds a line to mountinfo; device is the kernel's name, or "" for a source of
// another kind.
func (m *Machine) Mount(device, point, fstype, source string) {
	number := "0:40"
	if device != "" {
		data, err := os.ReadFile(filepath.Join(m.Dir, "sys/class/block", device, "dev"))
		must(err)
		number = strings.TrimSpace(string(data))
	}
	fmt.Fprintf(&m.mounts, "20 1 %s / %s rw,relatime shared:1 - %s %s rw\n", number, point, fstype, source)
}

// Hold stacks upper on lower: the kernel shows it at both.
func (m *Machine) Hold(lower, upper string) {
	m.File(fmt.Sprintf("sys/class/block/%s/holders/%s", lower, upper), "")
	m.File(fmt.Sprintf("sys/class/block/%s/slaves/%s", upper, lower), "")
}

// File writes a file, and creates the directories above it.
func (m *Machine) File(name, content string) {
	full := filepath.Join(m.Dir, name)
	must(os.MkdirAll(filepath.Dir(full), 0o755))
	must(os.WriteFile(full, []byte(content), 0o644))
}

// Link creates a symbolic link.
func (m *Machine) Link(target, name string) { must(os.Symlink(target, filepath.Join(m.Dir, name))) }

// Loader sets the partition from which the boot loader was started.
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
