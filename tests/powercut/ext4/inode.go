package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// Inode is a file.
type Inode struct {
	Number  uint32
	Size    int64 // bytes
	Extents []Extent
	Raw     []byte // all that the inode says, its times included
	fs      *FS
	nodes   int // of its tree of extents that have been read
}

// Extent is a run of blocks.
type Extent struct {
	Logical   uint64 // number of the first block in the file
	Physical  uint64 // and on the device
	Count     uint64
	Unwritten bool // reads as zeros
}

const (
	flagVerity  = 0x100000
	flagExtents = 0x80000

	extentMagic    = 0xf30a
	maxExtentDepth = 5
	maxNodes       = 1 << 12
	initLimit      = 1 << 15 // longer extents are unwritten
)

// Inode reads an inode that must be in use.
func (f *FS) Inode(number uint32) (*Inode, error) {
	group := uint64(number-1) / uint64(f.perGroup)
	if number == 0 || group >= uint64(len(f.tables)) {
		return nil, fmt.Errorf("%w: no inode %d", ErrDamaged, number)
	}
	offset := int64(uint64(number-1)%uint64(f.perGroup)) * f.inodeSize
	block, err := f.readBlock(int64(f.tables[group]) + offset/f.block)
	if err != nil {
		return nil, err
	}
	raw := block[offset%f.block:][:f.inodeSize]
	le := binary.LittleEndian
	i := &Inode{Number: number, Raw: raw, fs: f, Size: int64(le.Uint32(raw[0x4:])) | int64(le.Uint32(raw[0x6c:]))<<32}
	if le.Uint16(raw[0x1a:]) == 0 || i.Size < 0 {
		return nil, fmt.Errorf("%w: inode %d is not in use", ErrDamaged, number)
	}
	if le.Uint32(raw[0x20:])&flagExtents == 0 {
		return i, nil // a symbolic link or a device: what it has is in the inode
	}
	if err := i.readExtents(raw[0x28:0x64], maxExtentDepth); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	slices.SortFunc(i.Extents, func(a, b Extent) int { return int(int64(a.Logical) - int64(b.Logical)) })
	return i, nil
}

// readExtents reads a node of the tree of extents, and those below it.
func (i *Inode) readExtents(node []byte, depth uint16) error {
	le := binary.LittleEndian
	entries, left := int(le.Uint16(node[2:])), le.Uint16(node[6:])
	if i.nodes++; i.nodes > maxNodes || le.Uint16(node) != extentMagic || left >= depth || 12+entries*12 > len(node) {
		return fmt.Errorf("%w: not a node of extents", ErrDamaged)
	}
	for n := range entries {
		e := node[12+n*12:]
		if left > 0 {
			below, err := i.fs.readBlock(int64(uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32))
			if err == nil {
				err = i.readExtents(below, left)
			}
			if err != nil {
				return err
			}
			continue
		}
		x := Extent{Logical: uint64(le.Uint32(e)), Count: uint64(le.Uint16(e[4:])), Physical: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32}
		if x.Count > initLimit {
			x.Count, x.Unwritten = x.Count-initLimit, true
		}
		i.Extents = append(i.Extents, x)
	}
	return nil
}

// Mode returns type and permissions.
func (i *Inode) Mode() fs.FileMode {
	mode := binary.LittleEndian.Uint16(i.Raw)
	perm := fs.FileMode(mode & 0o777)
	switch mode & 0xf000 {
	case 0x8000:
		return perm
	case 0x4000:
		return perm | fs.ModeDir
	case 0xa000:
		return perm | fs.ModeSymlink
	}
	return perm | fs.ModeIrregular
}

// Verity reports whether fs-verity is enabled.
func (i *Inode) Verity() bool { return binary.LittleEndian.Uint32(i.Raw[0x20:])&flagVerity != 0 }

// Blocks calls visit for each block that the file occupies on the device, in the order of the file.
func (i *Inode) Blocks(visit func(block int64)) {
	for _, e := range i.Extents {
		for n := range e.Count {
			visit(int64(e.Physical + n))
		}
	}
}

// ReadAt reads from what the file occupies, which goes on behind its end where fs-verity keeps its own.
// Holes read as zeros. It is io.EOF behind the last extent.
func (i *Inode) ReadAt(p []byte, offset int64) (int, error) {
	done := 0
	for done < len(p) {
		at := offset + int64(done)
		n, err := i.readPart(p[done:], at)
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// readPart reads up to the end of an extent or of a hole.
func (i *Inode) readPart(p []byte, at int64) (int, error) {
	size := i.fs.block
	logical := uint64(at / size)
	index, _ := slices.BinarySearchFunc(i.Extents, logical, func(e Extent, l uint64) int {
		if l < e.Logical+e.Count {
			return 1
		}
		return -1
	})
	if index == len(i.Extents) {
		return 0, io.EOF
	}
	e := i.Extents[index]
	if logical < e.Logical { // a hole before it
		n := min(int64(len(p)), int64(e.Logical)*size-at)
		clear(p[:n])
		return int(n), nil
	}
	n := min(int64(len(p)), int64(e.Logical+e.Count)*size-at)
	if e.Unwritten {
		clear(p[:n])
		return int(n), nil
	}
	_, err := i.fs.device.ReadAt(p[:n], int64(e.Physical)*size+at-int64(e.Logical)*size)
	return int(n), err
}

// Content reads the file up to its end.
func (i *Inode) Content() io.Reader {
	return io.NewSectionReader(holes{i}, 0, i.Size)
}

// holes reads zeros behind the last extent too.
type holes struct{ *Inode }

func (h holes) ReadAt(p []byte, offset int64) (int, error) {
	n, err := h.Inode.ReadAt(p, offset)
	if errors.Is(err, io.EOF) && offset+int64(n) < h.Size {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// ReadFile reads a file whole, of at most limit bytes.
func (f *FS) ReadFile(name string, limit int64) ([]byte, error) {
	i, err := f.Lookup(name)
	if err != nil {
		return nil, err
	}
	if !i.Mode().IsRegular() || i.Size > limit {
		return nil, fmt.Errorf("read %s: not a file of at most %d bytes", name, limit)
	}
	return io.ReadAll(i.Content())
}
