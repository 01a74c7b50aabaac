// Package layer turns the layers of a container image into a file system tree.
//
// Import reads the tar stream of one layer, gives file contents to an object
// store and keeps the rest as a Layer: names, metadata, whiteouts. A Layer is
// written as a compact record (Encode, Decode), so that a layer which was seen
// once is never fetched again. Merge lays layers over each other.
//
// Format of the input: the "Image Layer Filesystem Changeset" of the OCI image
// specification, in ustar, PAX or GNU tar. Every byte of it is untrusted: see
// Limits, and Import for what is refused.
package layer

import (
	"context"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Objects takes the contents of files larger than tree.InlineMax. It is used
// by several layers at once.
type Objects interface {
	// Put reads r to its end, which comes after size bytes, and returns the digest of
	// the content.
	Put(ctx context.Context, r io.Reader, size int64) (fsverity.Digest, error)
	// Has reports whether the store has the content with this digest.
	Has(d fsverity.Digest) bool
}

// Layer is one layer of an image: the files that it brings and the names that
// it takes from the layers beneath.
type Layer struct {
	// root holds what the layer brings. Beside ordinary nodes there are nodes
	// of type lowerLink.
	root *tree.Inode
	// marks say what is special about some directories of root.
	marks map[*tree.Inode]*mark
	// entries and metadata are what Limits bound.
	entries  int
	metadata int64
	// lowerLinks counts the names that are hard links to lower layers.
	lowerLinks int
	// unlinked are names of symbolic links that later entries of the same layer
	// replaced by something else. A record of the layer doesn't have them.
	unlinked []string
}

// mark is what a directory of a layer can be beside a directory.
type mark struct {
	// implicit: the layer has entries beneath the directory but none for
	// itself, so that it has no metadata of its own.
	implicit bool
	// opaque: nothing of the lower layers' directory shows through.
	opaque bool
	// whiteouts are the names taken from the lower layers' directory.
	whiteouts map[string]struct{}
}

// lowerLink is the type (S_IFMT) of a node that stands for a hard link to a
// file of a lower layer, whose path is the node's Content. No file has it.
const lowerLink = 0

func isLowerLink(n *tree.Inode) bool { return n.Type() == lowerLink }

// implicitPerm is the mode of a directory that no layer has an entry for. Its
// owner is root, its mtime 0: containers/storage and ostree agree on mode and
// owner, and only a constant mtime gives a tree the same digest everywhere.
const implicitPerm = 0o755

func newLayer() *Layer {
	l := &Layer{root: tree.NewDir(implicitPerm), marks: make(map[*tree.Inode]*mark)}
	l.mark(l.root).implicit = true
	return l
}

// mark returns the mark of a directory, to be changed.
func (l *Layer) mark(dir *tree.Inode) *mark {
	m := l.marks[dir]
	if m == nil {
		m = new(mark)
		l.marks[dir] = m
	}
	return m
}

// Cost returns what the layer takes, in the terms of Limits: names, those of
// directories that other names only imply included, and bytes of metadata.
func (l *Layer) Cost() (entries int, metadata int64) { return l.entries, l.metadata }

// Objects yields the digest and the size in bytes of every content that the
// layer refers to, some of them more than once.
func (l *Layer) Objects() iter.Seq2[fsverity.Digest, int64] {
	return func(yield func(fsverity.Digest, int64) bool) {
		for _, n := range l.root.Walk() {
			if n.HasObject() && !yield(n.Digest, n.Size) {
				return
			}
		}
	}
}

// Contents yields the path and the size in bytes of every file that is not
// empty; hard links once for each name.
func (l *Layer) Contents() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for path, n := range l.root.Walk() {
			if n.IsRegular() && n.Size > 0 && !yield(path, n.Size) {
				return
			}
		}
	}
}

// Inline yields the contents of files that are too small for objects, some of
// them more than once. Empty ones are left out.
func (l *Layer) Inline() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, n := range l.root.Walk() {
			if n.IsRegular() && !n.HasObject() && n.Size > 0 && !yield(n.Content) {
				return
			}
		}
	}
}

func (m *mark) sortedWhiteouts() []string { return slices.Sorted(maps.Keys(m.whiteouts)) }

// Clone returns a copy of the layer that shares nothing with it that Merge
// changes.
func (l *Layer) Clone() *Layer {
	c := &Layer{marks: make(map[*tree.Inode]*mark, len(l.marks)), lowerLinks: l.lowerLinks}
	c.entries, c.metadata = l.Cost()
	c.root = l.copyNode(l.root, c, make(map[*tree.Inode]*tree.Inode))
	return c
}

func (l *Layer) copyNode(n *tree.Inode, to *Layer, copies map[*tree.Inode]*tree.Inode) *tree.Inode {
	if c := copies[n]; c != nil {
		return c
	}
	if !n.IsDir() {
		c := *n
		c.Xattrs = slices.Clone(n.Xattrs)
		copies[n] = &c
		return &c
	}
	c := tree.NewDir(0)
	c.CopyMetadata(n)
	if m := l.marks[n]; m != nil {
		to.marks[c] = m
	}
	for name, child := range n.Children() {
		_ = c.Insert(name, l.copyNode(child, to, copies)) // the name is one that n holds
	}
	return c
}
