// Package blockfs knows what is on a block device and whether it is sound: it
// recognises the file systems of a node, and runs e2fsck where it is needed.
package blockfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/ext4"
)

// Content is what a device holds.
type Content struct {
	Type  string // as the kernel names it: ext4, xfs, btrfs, vfat
	Dirty bool   // ext4: it says itself that it has errors
	// Torn says that power was cut while the superblock of ext4 was written; nil
	// where it is whole.
	Torn *ext4.Tear
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
	ext4StateAt  = ext4.Offset + 0x3a
	ext4ErrorBit = 1 << 1
	btrfsAt      = 64<<10 + 64
)

// Recognise tells what the first bytes of a device are.
func Recognise(head []byte) (Content, error) {
	has := func(at int, magic string) bool { return len(head) >= at && bytes.HasPrefix(head[at:], []byte(magic)) }
	switch {
	case has(0, "LUKS\xba\xbe"):
		return Content{}, exit.Hint(ErrLocked, "it was not unlocked: see the log above")
	case len(head) >= ext4StateAt+2 && binary.LittleEndian.Uint16(head[ext4.MagicAt:]) == ext4.Magic:
		state := binary.LittleEndian.Uint16(head[ext4StateAt:])
		c := Content{Type: "ext4", Dirty: state&ext4ErrorBit != 0}
		if len(head) >= ext4.Offset+ext4.Size {
			c.Torn = ext4.Torn(head[ext4.Offset:][:ext4.Size])
		}
		return c, nil
	case has(0, "XFSB"):
		return Content{Type: "xfs"}, nil
	case has(btrfsAt, "_BHRfS_M"):
		return Content{Type: "btrfs"}, nil
	case has(510, "\x55\xaa") && (has(54, "FAT1") || has(82, "FAT32")):
		return Content{Type: "vfat"}, nil
	}
	return Content{}, exit.Hint(errors.New("not a known file system"),
		"known are ext4, xfs, btrfs and vfat")
}
