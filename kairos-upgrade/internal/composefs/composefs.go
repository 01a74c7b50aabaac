// Package composefs writes and reads composefs images: EROFS file systems that
// hold the metadata of a tree, while the contents of files lie in an object
// store. Mounted below an overlayfs with the objects as a data-only lower
// layer and verity=require, the kernel checks every byte of the tree against
// the fs-verity digest of the image.
//
// Write produces, bit for bit, what mkcomposefs 1.0.8 produces for the same
// tree, so that the digest of an image can be computed anywhere, compared with
// other tools, and signed.
//
// # Format
//
// EROFS as in the kernel's fs/erofs/erofs_fs.h, little-endian, blocks of 4 KiB:
//
//	0      composefs header: magic, 1, flags (1: has ACLs), format version
//	1024   EROFS superblock, 128 bytes
//	1152   inodes in breadth-first order, each on a multiple of 32 bytes,
//	       followed by its extended attributes and its tail
//	…      extended attributes that several inodes share, descending by name,
//	       length of value, value
//	…      whole blocks: of directories, of symbolic links that fit nowhere else
//
// The number of an inode (nid) is its offset divided by 32. An inode takes 32
// bytes if its mtime is the oldest of the image and its numbers are small, 64
// otherwise. The tail is the last part of a directory, the target of a symbolic
// link, the content of a file of at most 64 bytes, or the chunk table (of
// holes) of a larger file, and never crosses a block boundary.
//
// What overlayfs needs is written as extended attributes. A larger file names
// its object in trusted.overlay.redirect ("/ab/cdef…") and the digest in
// trusted.overlay.metacopy. The root is opaque, and holds a whiteout for each
// of 00 … ff, so that the directories of the object store stay invisible.
// Attributes trusted.overlay.* of the tree itself are escaped as
// trusted.overlay.overlay.*, and whiteouts (character device 0:0) become empty
// files marked by attributes; a tree that has any is of format version 1, all
// others of version 0.
//
// A file with several names (hard links) has its inode where the first of them
// comes in depth-first order, which is the order of composefs-dump(5).
package composefs

import (
	"encoding/hex"
	"errors"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

const (
	blockSize = 4096
	blockBits = 12
	slotSize  = 32 // inodes start at multiples of this

	headerMagic   = 0xd078629a
	headerVersion = 1
	headerHasACL  = 1 << 0

	superOffset          = 1024
	superSize            = 128
	superMagic           = 0xe0f5e1e2
	superCompatMtime     = 1 << 1
	superCompatXattrName = 1 << 2 // inodes carry a filter of attribute names

	inodeStart   = superOffset + superSize
	compactSize  = 32
	extendedSize = 64
	direntSize   = 12

	xattrHeaderSize = 12
	xattrEntrySize  = 4

	layoutPlain  = 0 // data in whole blocks
	layoutInline = 2 // whole blocks and a tail behind the inode
	layoutChunks = 4 // a table of chunks behind the inode

	maxChunkBits = 31 + blockBits
	nullChunk    = 0xffffffff
	// maxFileSize keeps the table of chunks so short that it is always a
	// tail. libcomposefs goes on to 2^53 bytes, but puts the table where the
	// kernel does not look for it.
	maxFileSize = (blockSize - slotSize) / 4 << maxChunkBits

	// maxTarget is the length of the longest target of a symbolic link.
	maxTarget = 4095
	// maxXattrSize is what libcomposefs allows the attributes of one inode to
	// take, each counted with 7 bytes more than name and value.
	maxXattrSize = 32767
	maxXattrName = 255
	// maxDepth is how deep directories nest: paths of PATH_MAX bytes can't be
	// longer.
	maxDepth = 2048
)

// File types in directory entries.
const (
	typeRegular = 1 + iota
	typeDirectory
	typeCharDevice
	typeBlockDevice
	typeFifo
	typeSocket
	typeSymlink
)

// Names of extended attributes with a meaning for overlayfs.
const (
	overlayPrefix  = "trusted.overlay."
	overlayEscape  = "trusted.overlay.overlay."
	xattrMetacopy  = overlayPrefix + "metacopy"
	xattrRedirect  = overlayPrefix + "redirect"
	xattrOpaque    = overlayPrefix + "opaque"
	xattrWhiteout  = overlayEscape + "whiteout"  // of an escaped whiteout
	xattrWhiteouts = overlayEscape + "whiteouts" // of its directory
	xattrHasWhite  = overlayEscape + "opaque"    // of its directory, "x"

	// The same three, for overlays mounted with the option userxattr.
	xattrUserWhiteout  = "user.overlay.whiteout"
	xattrUserWhiteouts = "user.overlay.whiteouts"
	xattrUserHasWhite  = "user.overlay.opaque"
)

// ErrTree says that a tree can't be written as an image; it is wrapped with the path
// and the reason.
var ErrTree = errors.New("not a tree that composefs can hold")

// ErrImage says that bytes are not an image, or are damaged; it is wrapped with
// the place and the reason.
var ErrImage = errors.New("not a valid composefs image")

// pathError is an error about one file of a tree or an image.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

// below says that err is about something called name, or beneath it.
func below(name string, err error) error {
	if e, ok := err.(*pathError); ok {
		e.path = "/" + name + e.path
		return e
	}
	return &pathError{"/" + name, err}
}

// ObjectPath returns the path of an object below the directory of objects:
// "ab/cdef…".
func ObjectPath(d fsverity.Digest) string { return redirect(d)[1:] }

// metacopy is the value of trusted.overlay.metacopy: version, length, flags,
// hash algorithm (1: SHA-256) and digest, see the kernel's struct
// ovl_metacopy.
func metacopy(d fsverity.Digest) string {
	b := [4 + fsverity.Size]byte{1: 4 + fsverity.Size, 3: 1}
	copy(b[4:], d[:])
	return string(b[:])
}

// redirect is the value of trusted.overlay.redirect.
func redirect(d fsverity.Digest) string {
	var b [2 + 2*fsverity.Size]byte
	hex.Encode(b[2:], d[:])
	b[0], b[1], b[2], b[3] = '/', b[2], b[3], '/'
	return string(b[:])
}

// chunking returns the size of chunks (as a power of two) and their number for
// a file of size bytes: one chunk, as long as that is possible.
func chunking(size int64) (bits uint, chunks int64) {
	bits = blockBits
	for bits < maxChunkBits && int64(1)<<bits < size {
		bits++
	}
	return bits, (size-1)>>bits + 1
}

// roundUp rounds n up to a multiple of align, a power of two.
func roundUp[T int | uint64](n, align T) T { return (n + align - 1) &^ (align - 1) }
