// Package blockfs knows what is on a block device and whether it is sound: it
// recognises the file systems of a node, and runs e2fsck where it is needed.
package blockfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/kairos-io/toolkit/lib/cmdline"
)

// Content is what a device holds.
type Content struct {
	Type  string // as the kernel names it: ext4, xfs, btrfs, vfat
	Dirty bool   // ext4: it says itself that it has errors
	// Torn says that power was cut while the superblock of ext4 was written, half
	// of which is on the disk: nothing mounts it then. Backup is the block of its
	// first copy, of BlockSize bytes; 0 where there is none.
	Torn              bool
	Backup, BlockSize uint32
}

// ErrLocked says that a device is encrypted and was not unlocked.
var ErrLocked = errors.New("encrypted with LUKS and locked")

// probeSize is how much of a device is looked at: up to the superblock of
// btrfs, in bytes.
const probeSize = 68 << 10

// Probe looks at the superblock of a device. It reads and never writes.
func Probe(device string) (Content, error) {
	f, err := os.Open(device)
	if err != nil {
		return Content{}, err
	}
	defer f.Close()
	head := make([]byte, probeSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return Content{}, fmt.Errorf("read %s: %w", device, err)
	}
	c, err := Recognise(head[:n])
	if err != nil {
		return c, fmt.Errorf("%s: %w", device, err)
	}
	return c, nil
}

// Offsets and magic numbers: Documentation/filesystems/ext4/super.rst;
// xfs, btrfs and LUKS on-disk format documents; FAT of the UEFI specification.
const (
	ext4Magic    = 0xef53
	ext4At       = 1024 + 0x38
	ext4StateAt  = 1024 + 0x3a
	ext4ErrorBit = 1 << 1
	btrfsAt      = 64<<10 + 64
)

// Recognise tells what the first bytes of a device are.
func Recognise(head []byte) (Content, error) {
	has := func(at int, magic string) bool { return len(head) >= at && bytes.HasPrefix(head[at:], []byte(magic)) }
	switch {
	case has(0, "LUKS\xba\xbe"):
		return Content{}, cmdline.Hint(ErrLocked, "its unlocking failed, or nothing asked for it: see the log above")
	case len(head) >= ext4StateAt+2 && binary.LittleEndian.Uint16(head[ext4At:]) == ext4Magic:
		state := binary.LittleEndian.Uint16(head[ext4StateAt:])
		c := Content{Type: "ext4", Dirty: state&ext4ErrorBit != 0}
		if len(head) >= superblockAt+superblockSize {
			c.tear(head[superblockAt:][:superblockSize])
		}
		return c, nil
	case has(0, "XFSB"):
		return Content{Type: "xfs"}, nil
	case has(btrfsAt, "_BHRfS_M"):
		return Content{Type: "btrfs"}, nil
	case has(510, "\x55\xaa") && (has(54, "FAT1") || has(82, "FAT32")):
		return Content{Type: "vfat"}, nil
	}
	return Content{}, cmdline.Hint(errors.New("no file system that is known here"),
		"ext4, xfs, btrfs and vfat are")
}

// The superblock of ext4 takes two sectors, and a disk writes sectors:
// Documentation/filesystems/ext4/super.rst.
const (
	superblockAt   = 1024
	superblockSize = 1024
	checksumAt     = 0x3fc

	metadataChecksum = 0x400 // of the features that a reader may ignore
	sparseSuper2     = 0x200 // of the compatible features: copies are elsewhere
	maxLogBlockSize  = 6     // 64 KiB
)

// tear notes whether a superblock is torn, and where its first copy is: at the
// start of the second group. What tells that has never changed since mkfs.
func (c *Content) tear(superblock []byte) {
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(superblock[at:]) }
	if field(0x64)&metadataChecksum == 0 || ^crc32.Checksum(superblock[:checksumAt], crc32.MakeTable(crc32.Castagnoli)) == field(checksumAt) {
		return
	}
	c.Torn = true
	blocks, first, size, perGroup := field(0x4), field(0x14), field(0x18), field(0x20)
	if size <= maxLogBlockSize && field(0x5c)&sparseSuper2 == 0 && first <= 1 && perGroup > 0 && perGroup < blocks-first {
		c.Backup, c.BlockSize = first+perGroup, 1024<<size
	}
}
