// Package ext4 detects and repairs an ext4 superblock that a power cut has torn: a
// superblock takes two sectors, and disks write single sectors atomically. Format:
// Documentation/filesystems/ext4/super.rst.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Position of the superblock on a device, in bytes.
const (
	Offset = 1024
	Size   = 1024
)

// Magic is the superblock's magic number, at MagicAt of the device.
const (
	Magic   = 0xef53
	MagicAt = Offset + 0x38
)

const (
	checksumAt = 0x3fc

	metadataChecksum = 0x400 // a read-only compatible feature
	sparseSuper2     = 0x200 // a compatible feature: backup copies are elsewhere
	maxLogBlockSize  = 6     // 64 KiB
)

// Tear describes a torn superblock, of which one half is older than the other. The
// kernel does not mount such a file system, and e2fsck -p does not repair it.
type Tear struct {
	// Backup is the block with the first backup copy, of BlockSize bytes: for the
	// options -b and -B of e2fsck. It is 0 in a file system of one block group, which
	// has no backup copy.
	Backup, BlockSize uint32
}

func sum(superblock []byte) uint32 {
	return ^crc32.Checksum(superblock[:checksumAt], crc32.MakeTable(crc32.Castagnoli))
}

// Torn returns a description of the tear in a superblock, nil where the superblock is
// intact. It uses only fields that never change after mkfs to find the backup copies.
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

// Device is a device that Join writes to.
type Device interface {
	io.ReaderAt
	io.WriterAt
}

// Join writes the matching checksum into a torn superblock that has no backup copy.
// Each half was written by the kernel; the halves differ in counters and times, which
// "e2fsck -f -p" corrects, or reports. It writes one sector at most.
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
