package ext4

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

// CheckVerity reads a file and what fs-verity has written behind it: the Merkle tree, from the next
// multiple of 64 KiB on, and in the end the descriptor (Documentation/filesystems/fsverity.rst, ext4/
// verity.rst). It returns the digest that the kernel would measure. That the kernel would refuse to read a
// part of the file is an error.
func (i *Inode) CheckVerity() (fsverity.Digest, error) {
	measured, err := i.Digest()
	if err != nil {
		return measured, err
	}
	hash := fsverity.NewHasher()
	leaves, err := i.leaves(hash)
	if err != nil {
		return measured, err
	}
	if have := hash.Sum(); have != measured {
		return measured, fmt.Errorf("%w: the kernel measures %s, the content is %s", fsverity.ErrMismatch, measured, have)
	}
	return measured, i.checkTree(leaves)
}

// Digest returns the digest that the kernel would measure: it reads the descriptor alone.
func (i *Inode) Digest() (fsverity.Digest, error) {
	if !i.Verity() || !i.Mode().IsRegular() || i.Size > maxFile {
		return fsverity.Digest{}, fsverity.ErrNotEnabled
	}
	descriptor, err := i.descriptor()
	if err != nil {
		return fsverity.Digest{}, fmt.Errorf("read the fs-verity descriptor: %w", err)
	}
	return fsverity.Digest(sha256.Sum256(descriptor)), nil
}

const (
	descriptorSize = 256
	treeAlign      = 64 << 10
	hashesPerBlock = fsverity.BlockSize / fsverity.Size
)

// descriptor reads what lies before the last four bytes of the last block, which are its size.
func (i *Inode) descriptor() ([]byte, error) {
	if len(i.Extents) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	last := i.Extents[len(i.Extents)-1]
	end := int64(last.Logical+last.Count)*i.fs.block - 4
	size := make([]byte, 4)
	if _, err := i.ReadAt(size, end); err != nil {
		return nil, err
	}
	if n := binary.LittleEndian.Uint32(size); n != descriptorSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrDamaged, n)
	}
	// It begins at the block before its end that is a multiple of the block size.
	begin := (end - descriptorSize) / i.fs.block * i.fs.block
	d := make([]byte, descriptorSize)
	_, err := i.ReadAt(d, begin)
	return d, err
}

// leaves hashes the content, and each of its blocks.
func (i *Inode) leaves(whole io.Writer) ([]byte, error) {
	var hashes []byte
	content := i.Content()
	block := make([]byte, fsverity.BlockSize)
	for {
		n, err := io.ReadFull(content, block)
		if err == io.EOF {
			return hashes, nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		whole.Write(block[:n])
		clear(block[n:])
		sum := sha256.Sum256(block)
		hashes = append(hashes, sum[:]...)
	}
}

// checkTree compares the tree on the device with the one that the content has. Its levels lie there from
// the root down.
func (i *Inode) checkTree(leaves []byte) error {
	var levels [][]byte
	for len(leaves) > fsverity.Size {
		leaves = append(leaves, make([]byte, -len(leaves)&(fsverity.BlockSize-1))...)
		levels = append(levels, leaves)
		var above []byte
		for at := 0; at < len(leaves); at += hashesPerBlock * fsverity.Size {
			sum := sha256.Sum256(leaves[at:][:fsverity.BlockSize])
			above = append(above, sum[:]...)
		}
		leaves = above
	}
	at := (i.Size + treeAlign - 1) / treeAlign * treeAlign
	for n := len(levels) - 1; n >= 0; n-- {
		have := make([]byte, len(levels[n]))
		if _, err := i.ReadAt(have, at); err != nil {
			return fmt.Errorf("read the Merkle tree: %w", err)
		}
		if !bytes.Equal(have, levels[n]) {
			return fmt.Errorf("%w: level %d of its Merkle tree differs", fsverity.ErrMismatch, n)
		}
		at += int64(len(have))
	}
	return nil
}
