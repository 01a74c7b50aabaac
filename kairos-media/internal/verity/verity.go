// Package verity appends to files what fs-verity keeps behind their end on ext4, so
// that a file system can be made with it by a program, without a kernel that knows
// it. Formats: the kernel's Documentation/filesystems/fsverity.rst, "Merkle tree"
// and "fs-verity descriptor", and fs/ext4/verity.c.
package verity

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

const (
	block = fsverity.BlockSize
	// align is where ext4 looks for the tree: at the first multiple behind the end.
	align          = 64 << 10
	descriptorSize = 256
)

// Flags of the inode of a file with fs-verity: extents, verity.
const Flags = 0x80000 | 0x100000

// Metadata is the part behind the end of a file's content.
type Metadata struct {
	Digest fsverity.Digest
	Size   int64 // of the content, bytes
	At     int64 // where it begins
	bytes  []byte
}

// Bytes is the tree, the level of the root first, and the descriptor.
func (m Metadata) Bytes() []byte { return m.bytes }

// End is the length of the file with the metadata, in bytes.
func (m Metadata) End() int64 { return m.At + int64(len(m.bytes)) }

// Length returns how many bytes the metadata of a content of size bytes has.
func Length(size int64) int64 {
	n := int64(0)
	for blocks := (size + block - 1) / block; blocks > 1; {
		blocks = (blocks*fsverity.Size + block - 1) / block
		n += blocks
	}
	return (n + 1) * block
}

// Compute reads a content of size bytes to its end.
func Compute(r io.Reader, size int64) (Metadata, error) {
	m := Metadata{Size: size, At: (size + align - 1) / align * align}
	hashes := make([]byte, 0, (size+block-1)/block*fsverity.Size)
	buf := make([]byte, block)
	for left := size; left > 0; left -= block {
		n := min(left, block)
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return m, err
		}
		clear(buf[n:])
		sum := sha256.Sum256(buf)
		hashes = append(hashes, sum[:]...)
	}
	var levels [][]byte // from the leaves up
	for len(hashes) > fsverity.Size {
		level := make([]byte, (len(hashes)+block-1)/block*block)
		copy(level, hashes)
		levels = append(levels, level)
		hashes = nil
		for ; len(level) > 0; level = level[block:] {
			sum := sha256.Sum256(level[:block])
			hashes = append(hashes, sum[:]...)
		}
	}
	for i := len(levels) - 1; i >= 0; i-- {
		m.bytes = append(m.bytes, levels[i]...)
	}
	last := make([]byte, block)
	d := last[:descriptorSize]
	d[0], d[1], d[2] = 1, 1, 12 // version, SHA-256, blocks of 4096 bytes
	binary.LittleEndian.PutUint64(d[8:], uint64(size))
	copy(d[16:], hashes)
	m.Digest = sha256.Sum256(d)
	binary.LittleEndian.PutUint32(last[block-4:], descriptorSize)
	m.bytes = append(m.bytes, last...)
	return m, nil
}

// Append puts the metadata behind the content of a file, which must be the one that
// want names. A file that has been through it is refused: its content is another.
func Append(path string, want fsverity.Digest) (Metadata, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return Metadata{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Metadata{}, err
	}
	m, err := Compute(f, info.Size())
	if err == nil && m.Digest != want {
		err = fmt.Errorf("%w: it is %s", fsverity.ErrMismatch, m.Digest)
	}
	if err == nil {
		_, err = f.WriteAt(m.bytes, m.At)
	}
	if err != nil {
		return m, fmt.Errorf("fs-verity of %s: %w", path, err)
	}
	return m, f.Close()
}
