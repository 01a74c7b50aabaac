package layer

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A record is the line recordMagic and then, in one zstd frame:
//
//	record    = directory sha256
//	directory = metadata flags count whiteout* count (name node)*
//	node      = kind (directory | metadata content | path | index)
//	metadata  = permissions uid gid mtime count (xattr value)*
//	content   = by kind: size digest | bytes | target | device | nothing
//
// Numbers are varints of encoding/binary, mtime is a signed one. Names,
// xattrs, values, bytes and targets are a length and that many bytes. Names
// stand in strictly ascending order. A hard link has the index of a node, not
// counting directories and hard links, or, if it is to a lower layer, a path. sha256 is that of
// everything before it in the frame.
const recordMagic = "kairos-layer 1\n"

// Kinds of nodes in a record.
const (
	kindDir     = 'd'
	kindObject  = 'f'
	kindInline  = 'i'
	kindSymlink = 'l'
	kindChar    = 'c'
	kindBlock   = 'b'
	kindFifo    = 'p'
	kindLower   = 'x' // hard link to a file of a lower layer
	kindLink    = 'h' // hard link to a node before it
)

const (
	flagImplicit = 1 << iota
	flagOpaque
)

// ErrRecord says that a record is damaged or was written by another version.
var ErrRecord = errors.New("invalid layer record")

// Encode writes the layer's record. The same layer gives the same bytes.
func (l *Layer) Encode(w io.Writer) error {
	if _, err := io.WriteString(w, recordMagic); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	e := &encoder{layer: l, w: bufio.NewWriter(z), sum: sha256.New(), index: make(map[*tree.Inode]uint64)}
	for n := range l.root.Links() {
		e.index[n] = 0
	}
	e.directory(l.root)
	e.w.Write(e.sum.Sum(nil))
	if err := e.w.Flush(); err != nil {
		return err
	}
	return z.Close()
}

// encoder writes the payload of a record. Errors stay in w until Flush.
type encoder struct {
	layer *Layer
	w     *bufio.Writer
	sum   hash.Hash
	next  uint64
	// index has every node with several names; the value is 0 before the node
	// is written, then its index and 1.
	index map[*tree.Inode]uint64
	buf   [binary.MaxVarintLen64]byte
}

func (e *encoder) bytes(p []byte) {
	e.sum.Write(p)
	e.w.Write(p)
}

func (e *encoder) number(v uint64) { e.bytes(binary.AppendUvarint(e.buf[:0], v)) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	io.WriteString(e.sum, s)
	e.w.WriteString(s)
}

func (e *encoder) metadata(n *tree.Inode) {
	e.number(uint64(n.Mode &^ unix.S_IFMT))
	e.number(uint64(n.UID))
	e.number(uint64(n.GID))
	e.bytes(binary.AppendVarint(e.buf[:0], n.Mtime))
	e.number(uint64(len(n.Xattrs)))
	for _, x := range n.Xattrs {
		e.text(x.Name)
		e.text(x.Value)
	}
}

func (e *encoder) directory(dir *tree.Inode) {
	e.metadata(dir)
	m := e.layer.marks[dir]
	if m == nil {
		m = new(mark)
	}
	flags := uint64(0)
	if m.implicit {
		flags |= flagImplicit
	}
	if m.opaque {
		flags |= flagOpaque
	}
	e.number(flags)
	e.number(uint64(len(m.whiteouts)))
	for _, name := range m.sortedWhiteouts() {
		e.text(name)
	}
	e.number(uint64(dir.Len()))
	for name, child := range dir.Children() {
		e.text(name)
		e.node(child)
	}
}

func (e *encoder) node(n *tree.Inode) {
	if n.IsDir() {
		e.bytes([]byte{kindDir})
		e.directory(n)
		return
	}
	if at, shared := e.index[n]; shared {
		if at > 0 {
			e.bytes([]byte{kindLink})
			e.number(at - 1)
			return
		}
		e.index[n] = e.next + 1
	}
	e.next++
	kind := kindOf(n)
	e.bytes([]byte{kind})
	if kind != kindLower {
		e.metadata(n)
	}
	switch kind {
	case kindObject:
		e.number(uint64(n.Size))
		e.bytes(n.Digest[:])
	case kindInline, kindSymlink, kindLower:
		e.text(n.Content)
	case kindChar, kindBlock:
		e.number(uint64(n.Rdev))
	}
}

// kindOf returns the kind of a node that Import can make, other than a
// directory.
func kindOf(n *tree.Inode) byte {
	switch n.Type() {
	case unix.S_IFREG:
		if n.HasObject() {
			return kindObject
		}
		return kindInline
	case unix.S_IFLNK:
		return kindSymlink
	case unix.S_IFCHR:
		return kindChar
	case unix.S_IFBLK:
		return kindBlock
	case unix.S_IFIFO:
		return kindFifo
	case lowerLink:
		return kindLower
	}
	panic(fmt.Sprintf("layer: node of type %#o", n.Type()))
}
