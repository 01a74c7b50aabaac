package target_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-install/internal/target"
	"github.com/kairos-io/toolkit/kairos-install/internal/target/fakemachine"
	"golang.org/x/sys/unix"
)

const need = 4 << 30

// TestJudge shows for each way in which a disk can be unsuitable that it is
// refused, and that the message names what stands in the way. vda is always a
// good disk of 8 GiB beside it.
func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name  string
		build func(*fakemachine.Machine)
		disk  string // the one in question
		why   string // "" when it is suitable
	}{
		{"empty disk", func(f *fakemachine.Machine) { f.Disk("vdb", 9000) }, "vdb", ""},
		{"partitions that nobody uses", func(f *fakemachine.Machine) { f.Disk("vdb", 9000, "data:100") }, "vdb", ""},
		{"too small", func(f *fakemachine.Machine) { f.Disk("vdb", 2048) }, "vdb", "it is too small: 2 GiB, 4 GiB needed"},
		{"root", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "root:100")
			f.Mount("vdb1", "/", "ext4", "/dev/vdb1")
		}, "vdb", "the running system is on it: vdb1 is mounted at /"},
		{"running store", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "COS_GRUB:100", "COS_LIVE:800")
			f.Mount("", "/", "overlay", "overlay")
			f.Mount("vdb2", "/run/kairos/store", "ext4", "/dev/vdb2")
		}, "vdb", "the running system is on it: vdb2 is mounted at /run/kairos/store"},
		{"boot loader's disk, nothing mounted", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "COS_GRUB:100")
			f.Loader("vdb-1")
		}, "vdb", "the running system is on it: vdb1 has the running system's boot loader"},
		{"mounted partition", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "a:100", "b:100")
			f.Mount("vdb2", `/mnt/my\040disk`, "ext4", "/dev/vdb2")
		}, "vdb", "it is in use: vdb2 is mounted at /mnt/my disk"},
		{"mounted whole disk", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000)
			f.Mount("vdb", "/srv", "xfs", "/dev/vdb")
		}, "vdb", "it is in use: vdb is mounted at /srv"},
		{"btrfs reports no device number", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "a:100")
			f.Mount("", "/srv", "btrfs", "/dev/vdb1")
		}, "vdb", "it is in use: vdb1 is mounted at /srv"},
		{"swap partition", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "swap:100")
			f.Swaps += "/dev/vdb1 partition 100 0 -2\n"
		}, "vdb", "it is in use: vdb1 is used as swap"},
		{"LVM, not mounted", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "pv:100")
			f.Device("virtual/block/dm-0", "disk", 50, "dm/name=vg-data")
			f.Hold("vdb1", "dm-0")
		}, "vdb", "it is in use: vdb1 is held by dm-0 (vg-data)"},
		{"root on LUKS on RAID", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "r:100")
			f.Device("virtual/block/md0", "disk", 90)
			f.Device("virtual/block/dm-0", "disk", 90, "dm/name=root")
			f.Hold("vdb1", "md0")
			f.Hold("md0", "dm-0")
			f.Link("../dm-0", "dev/mapper/root")
			f.Mount("dm-0", "/", "ext4", "/dev/mapper/root")
		}, "vdb", "the running system is on it: dm-0 is mounted at /"},
		{"root in a file on it", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000, "ISO:100")
			f.Mount("vdb1", "/run/medium", "iso9660", "/dev/vdb1")
			f.Device("virtual/block/loop0", "disk", 90, "loop/backing_file=/run/medium/live/root.squashfs")
			f.Mount("loop0", "/usr", "squashfs", "/dev/loop0")
		}, "vdb", "the running system is on it: loop0 is mounted at /usr"},
		{"claimed by somebody unseen", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000)
			f.Claimed["vdb"] = unix.EBUSY
		}, "vdb", "it is in use: another program or a file system in another mount namespace has claimed it"},
		{"read-only", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000)
			f.File("sys/class/block/vdb/ro", "1\n")
		}, "vdb", "it is read-only"},
		{"removable", func(f *fakemachine.Machine) {
			f.Disk("vdb", 9000)
			f.File("sys/class/block/vdb/removable", "1\n")
		}, "vdb", "it is removable"},
		{"USB disk that says it is fixed", func(f *fakemachine.Machine) {
			f.Device("pci0000:00/usb1/1-1/host0/block/sdb", "disk", 9000, "device/type=0")
		}, "sdb", "it is attached over USB"},
		{"card reader without a card", func(f *fakemachine.Machine) {
			f.Device("pci0000:00/host0/block/sdb", "disk", 0, "device/type=0", "removable=1")
		}, "sdb", "there is no medium in it"},
		{"optical drive", func(f *fakemachine.Machine) {
			f.Device("pci0000:00/host0/block/sr0", "disk", 700, "device/type=5", "removable=1")
		}, "sr0", "it is an optical drive"},
		{"loop device", func(f *fakemachine.Machine) {
			f.Device("virtual/block/loop3", "disk", 9000, "loop/backing_file=/tmp/disk.img")
		}, "loop3", "it is a loop device"},
		{"zram", func(f *fakemachine.Machine) { f.Device("virtual/block/zram0", "disk", 9000) }, "zram0", "it is a memory disk"},
		{"eMMC boot area", func(f *fakemachine.Machine) {
			f.Device("platform/mmc0/block/mmcblk0boot0", "disk", 9000, "device/name=x")
		}, "mmcblk0boot0", "it is a firmware area"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := fakemachine.New(t.TempDir())
			f.Disk("vda", 8192)
			test.build(f)
			all, err := f.System().Judge(need)
			if err != nil {
				t.Fatal(err)
			}
			j := find(t, all, test.disk)
			if j.Why() != test.why || j.Suitable() != (test.why == "") {
				t.Errorf("%s: suitable %v, why %q; want %q", test.disk, j.Suitable(), j.Why(), test.why)
			}
			if good := find(t, all, "vda"); !good.Suitable() {
				t.Errorf("the disk beside it is refused: %s", good.Why())
			}
		})
	}
}

func find(t *testing.T, all []target.Judgement, name string) target.Judgement {
	t.Helper()
	for _, j := range all {
		if j.Disk.Name == name {
			return j
		}
	}
	t.Fatalf("%s is not among the disks", name)
	return target.Judgement{}
}

func TestChoose(t *testing.T) {
	f := fakemachine.New(t.TempDir())
	f.Disk("vda", 8192)
	f.Disk("vdb", 16384)
	f.Disk("vdc", 16384)
	f.Disk("vdd", 32768)
	f.Swaps += "/dev/vdd partition 100 0 -2\n"
	all, err := f.System().Judge(need)
	if err != nil {
		t.Fatal(err)
	}
	d, why, err := target.Choose(all)
	if err != nil || d.Name != "vdb" || why != "the first of the largest among 3 suitable disks" {
		t.Errorf("chose %s (%s), %v", d.Name, why, err)
	}
	if _, _, err := target.Choose(all[:1]); !errors.Is(err, target.ErrNoDisk) {
		t.Errorf("a used disk alone: %v", err)
	}
}

func TestFind(t *testing.T) {
	f := fakemachine.New(t.TempDir())
	f.Disk("vda", 8192, "data:100")
	f.Link("vda", "dev/by-id")
	f.File("dev/file", "")
	s := f.System()
	if d, err := s.Find(filepath.Join(f.Dir, "dev/by-id")); err != nil || d.Name != "vda" || d.Size != 8<<30 || len(d.Partitions) != 1 {
		t.Errorf("through a link: %+v, %v", d, err)
	}
	if _, err := s.Find(filepath.Join(f.Dir, "dev/vda1")); !errors.Is(err, target.ErrPartition) || !strings.Contains(err.Error(), "/vda") {
		t.Errorf("partition: %v", err)
	}
	if _, err := s.Find(filepath.Join(f.Dir, "dev/file")); !errors.Is(err, target.ErrNotBlock) {
		t.Errorf("file: %v", err)
	}
	if _, err := s.Find(filepath.Join(f.Dir, "dev/none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("nothing: %v", err)
	}
	if _, err := target.Local().Find("/proc/version"); !errors.Is(err, target.ErrNotBlock) {
		t.Errorf("a file of this machine: %v", err)
	}
}
