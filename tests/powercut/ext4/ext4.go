// Package ext4 reads file systems without mounting them, as little of them as it takes to find files and
// to know which blocks they lie in (Documentation/filesystems/ext4/ of Linux). Kernels without fs-verity
// refuse to open the files that are of interest here; debugfs would have to read them all for each power
// cut.
//
// The journal is not looked at: e2fsck must have replayed it before.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// ErrDamaged says that the file system is not as it should be.
var ErrDamaged = errors.New("damaged ext4 file system")

const (
	superOffset = 1024
	superSize   = 1024
	magic       = 0xef53
	rootInode   = 2

	incompatNeedsRecovery = 0x4
	incompatExtents       = 0x40
	incompat64Bit         = 0x80
	// incompatKnown are: file types, recovery, extents, 64 bit, flexible groups, checksum seed.
	incompatKnown = 0x2 | incompatNeedsRecovery | incompatExtents | incompat64Bit | 0x200 | 0x2000

	maxFile = 512 << 20 // bytes, of a file that is read
)

// FS is a file system.
type FS struct {
	device    io.ReaderAt
	block     int64 // bytes
	perGroup  uint32
	inodeSize int64
	tables    []uint64 // first block of each group's inode table
	cache     map[int64][]byte
}

// Open opens the file system on a device.
func Open(device io.ReaderAt) (*FS, error) {
	super := make([]byte, superSize)
	if _, err := device.ReadAt(super, superOffset); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint16(super[0x38:]) != magic {
		return nil, fmt.Errorf("%w: no superblock", ErrDamaged)
	}
	incompat := le.Uint32(super[0x60:])
	switch {
	case incompat&^uint32(incompatKnown) != 0 || incompat&incompatExtents == 0:
		return nil, fmt.Errorf("ext4: features %#x are not known here", incompat)
	case incompat&incompatNeedsRecovery != 0:
		return nil, errors.New("ext4: the journal has not been replayed")
	}
	f := &FS{device: device, block: 1024 << le.Uint32(super[0x18:]), perGroup: le.Uint32(super[0x28:]), inodeSize: int64(le.Uint16(super[0x58:])), cache: map[int64][]byte{}}
	if f.block > 4096 || f.perGroup == 0 || f.perGroup > 1<<16 || f.inodeSize < 128 || f.inodeSize > f.block {
		return nil, fmt.Errorf("%w: impossible sizes in the superblock", ErrDamaged)
	}
	return f, f.readGroups(super, incompat&incompat64Bit != 0)
}

func (f *FS) readGroups(super []byte, wide bool) error {
	le := binary.LittleEndian
	size := int64(32)
	if wide {
		size = int64(le.Uint16(super[0xfe:]))
	}
	groups := int64(le.Uint32(super) / f.perGroup)
	if size < 32 || size > 1024 || wide && size < 64 || groups > 1<<20 {
		return fmt.Errorf("%w: %d groups of %d bytes", ErrDamaged, groups, size)
	}
	table := make([]byte, groups*size)
	start := f.block // the block after the superblock's
	if f.block == superOffset {
		start = 2 * f.block
	}
	if _, err := f.device.ReadAt(table, start); err != nil {
		return fmt.Errorf("read the group descriptors: %w", err)
	}
	for i := range groups {
		d := table[i*size:]
		first := uint64(le.Uint32(d[0x8:]))
		if wide {
			first |= uint64(le.Uint32(d[0x28:])) << 32
		}
		f.tables = append(f.tables, first)
	}
	return nil
}

// readBlock reads a block and keeps it: of inode tables and directories.
func (f *FS) readBlock(number int64) ([]byte, error) {
	if b, ok := f.cache[number]; ok {
		return b, nil
	}
	b := make([]byte, f.block)
	if _, err := f.device.ReadAt(b, number*f.block); err != nil {
		return nil, fmt.Errorf("read block %d: %w", number, err)
	}
	f.cache[number] = b
	return b, nil
}

// Lookup returns the inode at a path from the root. It follows no symbolic links. One that does not exist
// is fs.ErrNotExist.
func (f *FS) Lookup(name string) (*Inode, error) {
	inode, err := f.Inode(rootInode)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		if part == "." || part == "" {
			continue
		}
		names, err := f.ReadDir(inode)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", name, err)
		}
		number, ok := names[part]
		if !ok {
			return nil, &fs.PathError{Op: "look up", Path: name, Err: fs.ErrNotExist}
		}
		if inode, err = f.Inode(number); err != nil {
			return nil, fmt.Errorf("look up %s: %w", name, err)
		}
	}
	return inode, nil
}

// ReadDir returns the names in a directory, without . and .., and their inodes' numbers.
func (f *FS) ReadDir(dir *Inode) (map[string]uint32, error) {
	if !dir.Mode().IsDir() {
		return nil, errors.New("not a directory")
	}
	names := map[string]uint32{}
	for _, e := range dir.Extents {
		for i := range int64(e.Count) {
			block, err := f.readBlock(int64(e.Physical) + i)
			if err != nil {
				return nil, err
			}
			if err := readNames(block, names); err != nil {
				return nil, fmt.Errorf("inode %d: %w", dir.Number, err)
			}
		}
	}
	return names, nil
}

// readNames reads a block of a directory. The inner nodes of an indexed directory look like blocks without
// names.
func readNames(block []byte, names map[string]uint32) error {
	le := binary.LittleEndian
	for len(block) >= 8 {
		inode, length, name := le.Uint32(block), int(le.Uint16(block[4:])), int(block[6])
		if length < 8 || length > len(block) || 8+name > length {
			return fmt.Errorf("%w: a directory entry of %d bytes", ErrDamaged, length)
		}
		n := string(block[8 : 8+name])
		if inode != 0 && strings.ContainsAny(n, "/\x00") {
			return fmt.Errorf("%w: a file called %q", ErrDamaged, n)
		}
		if inode != 0 && n != "" && n != "." && n != ".." {
			names[n] = inode
		}
		block = block[length:]
	}
	return nil
}
