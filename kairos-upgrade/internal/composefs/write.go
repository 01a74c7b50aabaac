package composefs

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// Write writes the image of a tree and returns its fs-verity digest, which is
// the image's name. The tree is not changed. Beyond the tree itself it needs
// about 50 bytes of memory for each inode. To learn only the digest, give it
// io.Discard. Errors: ErrTree, and those of w.
func Write(w io.Writer, root *tree.Inode) (fsverity.Digest, error) {
	p, err := plan(root)
	if err != nil {
		return fsverity.Digest{}, fmt.Errorf("write composefs image: %w", err)
	}
	out := newOutput(w)
	p.emit(out)
	digest, err := out.finish()
	if err != nil {
		return fsverity.Digest{}, fmt.Errorf("write composefs image: %w", err)
	}
	return digest, nil
}

// image is the plan of an image: everything that has to be known before its
// first byte can be written.
type image struct {
	survey
	inodes []inode // in breadth-first order
	shared shared

	inodesEnd  uint64 // offset of the shared attributes
	dataStart  uint64 // offset of the whole blocks
	dataBlocks uint64

	scratch struct {
		names  []name
		block  []dirent
		xattrs []xattr
	}
}

// inode is an inode as it is laid out.
type inode struct {
	node   *tree.Inode
	parent uint32 // number of the directory that holds its first name
	first  uint32 // directory: number of the first inode that is a child
	nlink  uint32
	nid    uint32 // offset in slots
	xattr  uint32 // bytes of extended attributes
	blocks uint32 // whole blocks
	tail   uint16 // bytes of the tail
	pad    uint16 // bytes left free before the inode

	compact   bool // the 32-byte form
	whiteouts bool // directory: holds escaped whiteouts
	hides     bool // is one of the whiteouts that hide the store's directories
}

func (n *inode) size() uint64 {
	if n.compact {
		return compactSize
	}
	return extendedSize
}

// isWhiteout reports whether the inode is a whiteout of the tree itself, which
// is written as an escaped one.
func (n *inode) isWhiteout() bool { return !n.hides && isWhiteout(n.node) }

func isWhiteout(n *tree.Inode) bool { return n.Type() == unix.S_IFCHR && n.Rdev == 0 }

// mode is the mode as it is written.
func (n *inode) mode() uint32 {
	if n.isWhiteout() {
		return n.node.Mode&^unix.S_IFMT | unix.S_IFREG
	}
	return n.node.Mode
}

func plan(root *tree.Inode) (*image, error) {
	p := new(image)
	if !root.IsDir() {
		return nil, fmt.Errorf("%w: its root is not a directory", ErrTree)
	}
	if err := p.look(root); err != nil {
		return nil, err
	}
	p.order(root)
	p.share()
	p.layOut()
	return p, nil
}

// order numbers the inodes breadth-first.
func (p *image) order(root *tree.Inode) {
	hide := hidingWhiteout(root)
	p.inodes = make([]inode, 1, p.count+256)
	p.inodes[0] = inode{node: root}
	for i := 0; i < len(p.inodes); i++ {
		dir := &p.inodes[i]
		if !dir.node.IsDir() {
			continue
		}
		dir.first = uint32(len(p.inodes))
		dir.nlink = 2
		for _, e := range p.names(i) {
			if e.isDot() {
				continue
			}
			child := inode{node: e.node, parent: uint32(i), nlink: 1}
			if e.node == nil {
				child.node, child.hides = hide, true
			}
			if l := p.links[e.node]; l != nil {
				if !l.isFirst(dir.node, e.name) {
					continue
				}
				l.inode = uint32(len(p.inodes))
				child.nlink = l.count
			}
			if child.node.IsDir() {
				dir.nlink++
			}
			if child.isWhiteout() {
				dir.whiteouts = true
			}
			p.inodes = append(p.inodes, child)
			dir = &p.inodes[i]
		}
	}
}

// hidingWhiteout returns the node of the whiteouts that hide directories of the
// object store: they are the root's in everything that can be compared.
func hidingWhiteout(root *tree.Inode) *tree.Inode {
	n := tree.NewSpecial(unix.S_IFCHR|0o644, 0)
	n.UID, n.GID, n.Mtime = root.UID, root.GID, root.Mtime
	if label, ok := root.Xattr("security.selinux"); ok {
		n.SetXattr("security.selinux", label)
	}
	return n
}

// name is a directory entry. Its node is nil for ".", "..", and the whiteouts
// that hide directories of the store.
type name struct {
	name string
	node *tree.Inode
}

func (n name) isDot() bool { return n.name == "." || n.name == ".." }

// dirent is a directory entry with the inode that it points to.
type dirent struct {
	name  string
	inode *inode
}

// names returns the entries of a directory as they are written: bytewise
// sorted, "." and ".." among them. They are valid until the next call.
func (p *image) names(dir int) []name {
	node := p.inodes[dir].node
	list := p.scratch.names[:0]
	for child, n := range node.Children() {
		list = append(list, name{child, n})
	}
	byName := func(a, b name) int { return strings.Compare(a.name, b.name) }
	if dir == 0 {
		for i := range 256 {
			hex := fmt.Sprintf("%02x", i)
			if node.Lookup(hex) == nil {
				list = append(list, name{hex, nil})
			}
		}
		slices.SortFunc(list, byName)
	}
	for _, dot := range [...]string{".", ".."} {
		at, _ := slices.BinarySearchFunc(list, name{dot, nil}, byName)
		list = slices.Insert(list, at, name{dot, nil})
	}
	p.scratch.names = list
	return list
}

// entries yields the entries of a directory with the numbers of their inodes.
func (p *image) entries(dir int) iter.Seq[dirent] {
	return func(yield func(dirent) bool) {
		d := &p.inodes[dir]
		next := d.first
		for _, e := range p.names(dir) {
			var target uint32
			l := p.links[e.node]
			switch {
			case e.name == ".":
				target = uint32(dir)
			case e.name == "..":
				target = d.parent
			case l != nil && !l.isFirst(d.node, e.name):
				target = l.inode
			default:
				target = next
				next++
			}
			if !yield(dirent{e.name, &p.inodes[target]}) {
				return
			}
		}
	}
}
