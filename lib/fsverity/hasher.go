package fsverity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxLevels is the maximum number of levels of a Merkle tree above the data: with 128
// hashes in a block, 8 levels cover more than 2^63 bytes.
const maxLevels = 8

// Hasher computes the Digest of what is written to it. Its memory (36 KiB)
// does not grow with the length of the data. The zero Hasher is that of an
// empty file and ready to use.
type Hasher struct {
	size uint64
	// data is the current last block of the file, levels[i] the current last block of
	// level i of the tree. A full block stays until more data follows, so that a level
	// is used only if the level below has more than one block.
	data   block
	levels [maxLevels]block
}

type block struct {
	buf  [BlockSize]byte
	used int
}

// sum hashes the block, padded with zeros, and empties it.
func (b *block) sum() Digest {
	clear(b.buf[b.used:])
	b.used = 0
	return sha256.Sum256(b.buf[:])
}

// NewHasher returns a Hasher of an empty file.
func NewHasher() *Hasher { return new(Hasher) }

// Reset makes h the Hasher of an empty file again.
func (h *Hasher) Reset() {
	h.size = 0
	h.data.used = 0
	for i := range h.levels {
		h.levels[i].used = 0
	}
}

// Size returns how many bytes have been written.
func (h *Hasher) Size() int64 { return int64(h.size) }

// Write adds p to the file. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	h.size += uint64(n)
	for len(p) > 0 {
		if h.data.used == BlockSize {
			h.push(0, h.data.sum())
		}
		// Whole blocks that something follows need no copy.
		for h.data.used == 0 && len(p) > BlockSize {
			h.push(0, sha256.Sum256(p[:BlockSize]))
			p = p[BlockSize:]
		}
		c := copy(h.data.buf[h.data.used:], p)
		h.data.used += c
		p = p[c:]
	}
	return n, nil
}

// push appends a hash to a level. It first hashes a full block into the next level.
func (h *Hasher) push(level int, d Digest) {
	b := &h.levels[level]
	if b.used == BlockSize {
		h.push(level+1, b.sum())
	}
	b.used += copy(b.buf[b.used:], d[:])
}

// Sum returns the digest of everything written so far and doesn't change h.
func (h *Hasher) Sum() Digest {
	if h.size == 0 {
		return descriptor(0, Digest{})
	}
	t := *h
	root := t.data.sum()
	for level := 0; level < maxLevels && t.levels[level].used > 0; level++ {
		t.push(level, root)
		root = t.levels[level].sum()
	}
	return descriptor(h.size, root)
}

// descriptor hashes struct fsverity_descriptor for a file of size bytes.
func descriptor(size uint64, root Digest) Digest {
	const hashSHA256, log2BlockSize = 1, 12
	var d [256]byte
	d[0] = 1 // version
	d[1] = hashSHA256
	d[2] = log2BlockSize
	binary.LittleEndian.PutUint64(d[8:], size)
	copy(d[16:], root[:])
	return sha256.Sum256(d[:])
}

// File reads r to its end and returns its digest and its length in bytes.
func File(r io.Reader) (Digest, int64, error) {
	h := NewHasher()
	n, err := io.CopyBuffer(onlyWriter{h}, onlyReader{r}, make([]byte, 64<<10))
	if err != nil {
		return Digest{}, n, err
	}
	return h.Sum(), n, nil
}

// Bytes returns the digest of a file with the content p.
func Bytes(p []byte) Digest {
	var h Hasher
	h.Write(p)
	return h.Sum()
}

// ErrMismatch is returned by Check for a file whose digest is not the expected one.
var ErrMismatch = errors.New("content does not match its digest")

// Check reads r to its end and returns ErrMismatch, wrapped with both digests,
// if its digest is not want.
func Check(r io.Reader, want Digest) error {
	got, _, err := File(r)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: want %s, have %s", ErrMismatch, want, got)
	}
	return nil
}

// onlyReader and onlyWriter hide other methods, so that io.CopyBuffer uses its buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
