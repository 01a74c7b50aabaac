// Package ext4 makes and reads the file system of a medium's store.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// BlockSize is the only size of blocks that is read and written, in bytes: that of
// fs-verity.
const BlockSize = 4096

// Limits of what is read.
const (
	maxDirectory = 64 << 20 // bytes
	maxExtents   = 1 << 20
	maxDepth     = 5
)

// ErrDamaged is about a file system whose structures make no sense.
var ErrDamaged = errors.New("damaged file system")

// FS is a file system that is read. Only what mkfs.ext4 and debugfs make for a store
// is understood: extents, no inline data, no encryption.
type FS struct {
	r         io.ReaderAt
	size      int64 // bytes
	Label     string
	UUID      string
	perGroup  uint32
	inodes    uint32
	inodeSize int64
	descSize  int64
}

// Names of incompatible features: file types, extents, 64 bit, flexible groups, seed
// of the checksums.
const known = 0x2 | 0x40 | 0x80 | 0x200 | 0x2000

// Open reads the superblock of a file system of size bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, 1024)
	if _, err := r.ReadAt(b, 1024); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	le := binary.LittleEndian
	f := &FS{r: r, size: size, inodes: le.Uint32(b), perGroup: le.Uint32(b[40:]), inodeSize: int64(le.Uint16(b[88:])), descSize: 32}
	features := le.Uint32(b[96:])
	switch {
	case le.Uint16(b[56:]) != 0xef53:
		return nil, fmt.Errorf("%w: no ext4", ErrDamaged)
	case le.Uint32(b[24:]) != 2:
		return nil, fmt.Errorf("%w: its blocks have not 4096 bytes", ErrDamaged)
	case features&^known != 0:
		return nil, fmt.Errorf("%w: unknown features %#x", ErrDamaged, features&^known)
	case f.perGroup == 0 || f.inodeSize < 128 || f.inodeSize > BlockSize:
		return nil, fmt.Errorf("%w: inodes of %d bytes, %d in a group", ErrDamaged, f.inodeSize, f.perGroup)
	}
	if features&0x80 != 0 {
		if f.descSize = int64(le.Uint16(b[254:])); f.descSize < 64 || f.descSize > BlockSize {
			return nil, fmt.Errorf("%w: group descriptors of %d bytes", ErrDamaged, f.descSize)
		}
	}
	f.Label = strings.TrimRight(string(b[120:136]), "\x00")
	f.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", b[104:108], b[108:110], b[110:112], b[112:114], b[114:120])
	return f, nil
}

// extent is a run of blocks.
type extent struct{ logical, physical, count int64 }

// File is a file or a directory.
type File struct {
	fs      *FS
	Dir     bool
	Regular bool
	Size    int64
	Flags   uint32
	extents []extent
}

// Entry is a name in a directory.
type Entry struct {
	Name  string
	inode uint32
}

func (f *FS) inode(n uint32) (*File, error) {
	if n == 0 || n > f.inodes {
		return nil, fmt.Errorf("%w: inode %d", ErrDamaged, n)
	}
	le := binary.LittleEndian
	desc := make([]byte, f.descSize)
	if _, err := f.r.ReadAt(desc, BlockSize+int64((n-1)/f.perGroup)*f.descSize); err != nil {
		return nil, err
	}
	table := int64(le.Uint32(desc[8:]))
	if f.descSize >= 64 {
		table |= int64(le.Uint32(desc[40:])) << 32
	}
	at := int64((n - 1) % f.perGroup)
	if table <= 0 || table > f.size/BlockSize {
		return nil, fmt.Errorf("%w: inode table at block %d", ErrDamaged, table)
	}
	b := make([]byte, 128)
	if _, err := f.r.ReadAt(b, table*BlockSize+at*f.inodeSize); err != nil {
		return nil, err
	}
	file := &File{fs: f, Flags: le.Uint32(b[32:]), Size: int64(le.Uint32(b[4:])) | int64(le.Uint32(b[108:]))<<32}
	switch le.Uint16(b) & 0xf000 {
	case 0x4000:
		file.Dir = true
	case 0x8000:
		file.Regular = true
	default:
		return file, nil
	}
	if file.Size < 0 || file.Size > 1<<48 {
		return nil, fmt.Errorf("%w: inode %d has %d bytes", ErrDamaged, n, file.Size)
	}
	if file.Flags&0x80000 == 0 {
		return nil, fmt.Errorf("%w: inode %d has no extents", ErrDamaged, n)
	}
	if err := f.tree(b[40:100], maxDepth, &file.extents); err != nil {
		return nil, fmt.Errorf("inode %d: %w", n, err)
	}
	slices.SortFunc(file.extents, func(a, b extent) int { return int(a.logical - b.logical) })
	return file, nil
}

// tree reads a node of a tree of extents.
func (f *FS) tree(b []byte, depth int, all *[]extent) error {
	le := binary.LittleEndian
	count, level := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if le.Uint16(b) != 0xf30a || 12+12*count > len(b) || level > depth {
		return fmt.Errorf("%w: extents", ErrDamaged)
	}
	for i := range count {
		e := b[12+12*i:]
		if level == 0 {
			x := extent{int64(le.Uint32(e)), int64(le.Uint16(e[6:]))<<32 | int64(le.Uint32(e[8:])), int64(le.Uint16(e[4:]))}
			if x.count > 32768 || x.count == 0 || x.physical <= 0 || x.physical+x.count > f.size/BlockSize || len(*all) >= maxExtents {
				return fmt.Errorf("%w: extent of %d blocks at %d", ErrDamaged, x.count, x.physical)
			}
			*all = append(*all, x)
			continue
		}
		at := int64(le.Uint16(e[8:]))<<32 | int64(le.Uint32(e[4:]))
		if at <= 0 || at >= f.size/BlockSize || len(*all) >= maxExtents {
			return fmt.Errorf("%w: extents at block %d", ErrDamaged, at)
		}
		node := make([]byte, BlockSize)
		if _, err := f.r.ReadAt(node, at*BlockSize); err != nil {
			return err
		}
		if int(le.Uint16(node[6:])) != level-1 {
			return fmt.Errorf("%w: extents at block %d", ErrDamaged, at)
		}
		if err := f.tree(node, level-1, all); err != nil {
			return err
		}
	}
	return nil
}

// ReadAt reads what the blocks hold, behind the end of the content as well: there
// fs-verity keeps its data. Holes are zeros.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for _, x := range f.extents {
		from, to := max(off, x.logical*BlockSize), min(off+int64(len(p)), (x.logical+x.count)*BlockSize)
		if from >= to {
			continue
		}
		if _, err := f.fs.r.ReadAt(p[from-off:to-off], x.physical*BlockSize+from-x.logical*BlockSize); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Content reads the content.
func (f *File) Content() io.Reader { return io.NewSectionReader(f, 0, f.Size) }

// Entries lists a directory, in its order, without "." and "..".
func (f *File) Entries() ([]Entry, error) {
	if !f.Dir || f.Size > maxDirectory {
		return nil, fmt.Errorf("%w: a directory of %d bytes", ErrDamaged, f.Size)
	}
	le := binary.LittleEndian
	var all []Entry
	b := make([]byte, BlockSize)
	for at := int64(0); at < f.Size; at += BlockSize {
		if _, err := f.ReadAt(b, at); err != nil {
			return nil, err
		}
		for rest := b; len(rest) >= 8; {
			length, name := int(le.Uint16(rest[4:])), int(rest[6])
			if length < 8 || length > len(rest) || 8+name > length {
				return nil, fmt.Errorf("%w: directory", ErrDamaged)
			}
			if inode := le.Uint32(rest); inode != 0 && name > 0 {
				if n := string(rest[8 : 8+name]); n != "." && n != ".." {
					all = append(all, Entry{n, inode})
				}
			}
			rest = rest[length:]
		}
	}
	return all, nil
}

// Open opens what an entry names.
func (f *FS) Open(e Entry) (*File, error) { return f.inode(e.inode) }

// Root opens the root directory.
func (f *FS) Root() (*File, error) { return f.inode(2) }

// Find opens a path.
func (f *FS) Find(name string) (*File, error) {
	at, err := f.Root()
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		entries, err := at.Entries()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == part })
		if i < 0 {
			return nil, fmt.Errorf("%s: no such file", name)
		}
		if at, err = f.inode(entries[i].inode); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return at, nil
}
