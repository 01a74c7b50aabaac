// Package ext4 reads ext4 superblocks, and detects and repairs one that a power cut has torn: a
// superblock takes two sectors, and disks write single sectors atomically. Format:
// Documentation/filesystems/ext4/super.rst.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// Position of the superblock on a device, in bytes.
const (
	Offset = 1024
	Size   = 1024
)

const (
	magic      = 0xef53
	magicAt    = 0x38
	checksumAt = 0x3fc

	stateErrors      = 1 << 1
	incompat64Bit    = 0x80  // an incompatible feature
	metadataChecksum = 0x400 // a read-only compatible feature
	sparseSuper2     = 0x200 // a compatible feature: backup copies are elsewhere
	maxLogBlockSize  = 6     // 64 KiB
)

// ErrNone is returned where there is no ext4 superblock.
var ErrNone = errors.New("no ext4 file system")

// Superblock describes a file system.
type Superblock struct {
	Size, BlockSize int64 // of the file system and of a block, in bytes
	Errors          bool  // the kernel has found errors
	Torn            *Tear // nil when the superblock is whole
}

// Read reads the superblock of a device.
func Read(device string) (Superblock, error) {
	f, err := os.Open(device)
	if err != nil {
		return Superblock{}, err
	}
	defer f.Close()
	b := make([]byte, Size)
	if _, err := f.ReadAt(b, Offset); err == io.EOF {
		return Superblock{}, fmt.Errorf("%s: %w", device, ErrNone)
	} else if err != nil {
		return Superblock{}, err
	}
	s, err := Parse(b)
	if err != nil {
		return s, fmt.Errorf("%s: %w", device, err)
	}
	return s, nil
}

// Parse reads a superblock of Size bytes.
func Parse(b []byte) (Superblock, error) {
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if len(b) < Size || binary.LittleEndian.Uint16(b[magicAt:]) != magic || field(0x18) > maxLogBlockSize {
		return Superblock{}, ErrNone
	}
	blocks := int64(field(0x4))
	if field(0x60)&incompat64Bit != 0 {
		blocks |= int64(field(0x150)&0xffff) << 32
	}
	s := Superblock{BlockSize: 1024 << field(0x18), Errors: field(0x3a)&stateErrors != 0, Torn: Torn(b)}
	s.Size = blocks * s.BlockSize
	return s, nil
}

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
	if binary.LittleEndian.Uint16(superblock[magicAt:]) != magic {
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
