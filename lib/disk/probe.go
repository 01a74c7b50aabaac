package disk

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// What a device may hold, in the words of blkid(8); those of file systems are the kernel's as well.
const (
	LUKSVolume = "crypto_LUKS"
	Ext4       = "ext4"
	XFS        = "xfs"
	Btrfs      = "btrfs"
	VFAT       = "vfat"
)

// luksMagic starts the first header of LUKS1 and LUKS2.
const luksMagic = "LUKS\xba\xbe"

// ProbeSize is how much of a device Recognise wants, in bytes: up to the superblock of btrfs.
const ProbeSize = 68 << 10

// Probe tells what a device holds, "" where it is none of the above. It reads and never writes.
func Probe(device string) (string, error) {
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, ProbeSize)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return "", fmt.Errorf("read %s: %w", device, err)
	}
	return Recognise(head[:n]), nil
}

// Recognise tells what a device holds by the magic numbers in its first bytes: Documentation/filesystems/ext4/super.rst;
// the on-disk formats of xfs, btrfs and LUKS; FAT of the UEFI specification.
func Recognise(head []byte) string {
	has := func(at int, magic string) bool { return len(head) >= at && bytes.HasPrefix(head[at:], []byte(magic)) }
	switch {
	case has(0, luksMagic):
		return LUKSVolume
	case has(1024+0x38, "\x53\xef"):
		return Ext4
	case has(0, "XFSB"):
		return XFS
	case has(64<<10+64, "_BHRfS_M"):
		return Btrfs
	case has(510, "\x55\xaa") && (has(54, "FAT1") || has(82, "FAT32")):
		return VFAT
	}
	return ""
}
