package tree

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

// directory holds the children of one directory, by name.
//
// Most entries come in order and are appended to sorted. Others wait in recent,
// also in order, until it has grown to about the square root of sorted, and are
// then merged. So a name is found by two binary searches, memory is that of a
// slice, and no order of insertion makes a huge directory quadratic.
type directory struct {
	sorted []entry
	recent []entry
}

type entry struct {
	name string
	node *Inode
}

func find(entries []entry, name string) (int, bool) {
	return slices.BinarySearchFunc(entries, name, func(e entry, name string) int {
		return strings.Compare(e.name, name)
	})
}

// slot returns where the node called name is kept, or nil.
func (d *directory) slot(name string) **Inode {
	if i, ok := find(d.sorted, name); ok {
		return &d.sorted[i].node
	}
	if i, ok := find(d.recent, name); ok {
		return &d.recent[i].node
	}
	return nil
}

func (d *directory) add(e entry) {
	if n := len(d.sorted); n == 0 || d.sorted[n-1].name < e.name {
		d.sorted = append(d.sorted, e)
		return
	}
	i, _ := find(d.recent, e.name)
	d.recent = slices.Insert(d.recent, i, e)
	if n := len(d.recent); n > 16 && n*n > len(d.sorted) {
		d.merge()
	}
}

// merge empties recent into sorted, from the back so that nothing is
// overwritten before it has moved.
func (d *directory) merge() {
	if len(d.recent) == 0 {
		return
	}
	i, j := len(d.sorted)-1, len(d.recent)-1
	d.sorted = append(d.sorted, d.recent...)
	for k := len(d.sorted) - 1; j >= 0; k-- {
		if i >= 0 && d.sorted[i].name > d.recent[j].name {
			d.sorted[k] = d.sorted[i]
			i--
		} else {
			d.sorted[k] = d.recent[j]
			j--
		}
	}
	d.recent = nil
}

func (d *directory) remove(name string) bool {
	if i, ok := find(d.sorted, name); ok {
		d.sorted = slices.Delete(d.sorted, i, i+1)
		return true
	}
	if i, ok := find(d.recent, name); ok {
		d.recent = slices.Delete(d.recent, i, i+1)
		return true
	}
	return false
}

// Insert puts child into the directory n under name and replaces what was
// there. The same child may be inserted under many names (hard links), unless
// it is a directory. Errors: ErrName, ErrNotDir.
func (n *Inode) Insert(name string, child *Inode) error {
	if !n.IsDir() {
		return fmt.Errorf("insert %q: %w", name, ErrNotDir)
	}
	if err := CheckName(name); err != nil {
		return fmt.Errorf("insert %w", err)
	}
	if n.dir == nil {
		n.dir = new(directory)
	}
	if at := n.dir.slot(name); at != nil {
		*at = child
		return nil
	}
	n.dir.add(entry{name, child})
	return nil
}

// Remove takes the name out of the directory n, and reports whether it was
// there.
func (n *Inode) Remove(name string) bool { return n.dir != nil && n.dir.remove(name) }

// Clear takes all names out of the directory n.
func (n *Inode) Clear() {
	if n.dir != nil {
		*n.dir = directory{}
	}
}

// Lookup returns the child of the directory n called name, or nil.
func (n *Inode) Lookup(name string) *Inode {
	if n.dir == nil {
		return nil
	}
	if at := n.dir.slot(name); at != nil {
		return *at
	}
	return nil
}

// Find returns the node at a slash-separated path beneath n, or nil. Empty
// components and "." are skipped; ".." finds nothing, and symbolic links are
// not followed.
func (n *Inode) Find(path string) *Inode {
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		if n = n.Lookup(name); n == nil {
			return nil
		}
	}
	return n
}

// Len returns how many names the directory n holds.
func (n *Inode) Len() int {
	if n.dir == nil {
		return 0
	}
	return len(n.dir.sorted) + len(n.dir.recent)
}

// Children yields names and children of the directory n in bytewise order of
// the names. The directory must not be changed meanwhile.
func (n *Inode) Children() iter.Seq2[string, *Inode] {
	return func(yield func(string, *Inode) bool) {
		if n.dir == nil {
			return
		}
		n.dir.merge()
		for _, e := range n.dir.sorted {
			if !yield(e.name, e.node) {
				return
			}
		}
	}
}

// Walk yields every path of the tree with its node, a directory before its
// children, names in bytewise order. The path of n itself is ".", others have
// no leading slash. A hard link comes once for each of its names. Children of
// a directory may be changed while it is visited itself, not later.
func (n *Inode) Walk() iter.Seq2[string, *Inode] {
	return func(yield func(string, *Inode) bool) {
		if yield(".", n) {
			n.walk("", yield)
		}
	}
}

func (n *Inode) walk(prefix string, yield func(string, *Inode) bool) bool {
	for name, child := range n.Children() {
		path := prefix + name
		if !yield(path, child) {
			return false
		}
		if child.Len() > 0 && !child.walk(path+"/", yield) {
			return false
		}
	}
	return true
}

// Links returns the link count of every file beneath n that has more than one
// name. Directories are not in it.
func (n *Inode) Links() map[*Inode]uint32 {
	names := make(map[*Inode]uint32)
	n.countNames(names)
	for node, count := range names {
		if count == 1 {
			delete(names, node)
		}
	}
	return names
}

func (n *Inode) countNames(names map[*Inode]uint32) {
	for _, child := range n.Children() {
		if child.IsDir() {
			child.countNames(names)
		} else {
			names[child]++
		}
	}
}

// Object is the content of files larger than InlineMax.
type Object struct {
	Digest fsverity.Digest
	Size   int64 // in bytes
}

// Objects returns the objects that files beneath n need, each once, in order
// of their digests.
func (n *Inode) Objects() []Object {
	var list []Object
	n.collectObjects(&list)
	slices.SortFunc(list, func(a, b Object) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	return slices.Clip(slices.CompactFunc(list, func(a, b Object) bool { return a.Digest == b.Digest }))
}

func (n *Inode) collectObjects(list *[]Object) {
	for _, child := range n.Children() {
		if child.HasObject() {
			*list = append(*list, Object{child.Digest, child.Size})
		}
		child.collectObjects(list)
	}
}
