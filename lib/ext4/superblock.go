// Package ext4 knows a superblock of which power was cut in the middle: it takes
// two sectors, and a disk writes sectors. Documentation/filesystems/ext4/super.rst.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Where the superblock lies on a device, in bytes.
const (
	Offset = 1024
	Size   = 1024
)

// Magic is the superblock's, at MagicAt of the device.
const (
	Magic   = 0xef53
	MagicAt = Offset + 0x38
)

const (
	checksumAt = 0x3fc

	metadataChecksum = 0x400 // of the features that a reader may ignore
	sparseSuper2     = 0x200 // of the compatible features: copies are elsewhere
	maxLogBlockSize  = 6     // 64 KiB
)

// Tear says that a superblock is torn: half of it is from before. Nothing mounts
// the file system then, and e2fsck -p does not mend it.
type Tear struct {
	// Backup is the block with the first copy, of BlockSize bytes: what e2fsck -b
	// and -B take. 0 in a file system of one group, which has no copy.
	Backup, BlockSize uint32
}

func sum(superblock []byte) uint32 {
	return ^crc32.Checksum(superblock[:checksumAt], crc32.MakeTable(crc32.Castagnoli))
}

// Torn returns what is known of the tear in a superblock, nil where it is whole.
// What tells where copies are has never changed since mkfs.
func Torn(superblock []byte) *Tear {
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(superblock[at:]) }
	if len(superblock) < Size || field(0x64)&metadataChecksum == 0 || sum(superblock) == field(checksumAt) {
		return nil
	}
	t := new(Tear)
	blocks, first, size, perGroup := field(0x4), field(0x14), field(0x18), field(0x20)
	if size <= maxLogBlockSize && field(0x5c)&sparseSuper2 == 0 && first <= 1 && perGroup > 0 && blocks > first && perGroup < blocks-first {
		t.Backup, t.BlockSize = first+perGroup, 1024<<size
	}
	return t
}

// Device is what Join writes to.
type Device interface {
	io.ReaderAt
	io.WriterAt
}

// Join gives a torn superblock that has no copy the checksum of what is there:
// each half is one that the kernel has written, and differs from the other in
// counters and times. "e2fsck -f -p" puts those right, or says that it can't. It
// writes one sector at most.
func Join(device Device) error {
	superblock := make([]byte, Size)
	if _, err := device.ReadAt(superblock, Offset); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	if binary.LittleEndian.Uint16(superblock[MagicAt-Offset:]) != Magic {
		return errors.New("superblock: not of ext4")
	}
	if Torn(superblock) == nil {
		return nil
	}
	if _, err := device.WriteAt(binary.LittleEndian.AppendUint32(nil, sum(superblock)), Offset+checksumAt); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	return nil
}
