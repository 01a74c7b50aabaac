// Package blockfs recognizes the file systems of a node on block devices, and checks
// them with e2fsck where needed.
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

// Content is the content of a device.
type Content struct {
	Type  string // as the kernel names it: ext4, xfs, btrfs, vfat
	Dirty bool   // ext4: the superblock records errors
	// Torn describes a superblock of ext4 that a power cut has torn; nil where it is
	// intact.
	Torn *ext4.Tear
}

// ErrLocked says that a device is encrypted and locked.
var ErrLocked = errors.New("encrypted with LUKS and locked")

// probeSize is how many bytes of a device are read: up to the superblock of btrfs.
const probeSize = 68 << 10

// Probe recognizes the content of a device from its superblock. It only reads.
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

// Recognise returns the content of a device, given its first bytes.
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
