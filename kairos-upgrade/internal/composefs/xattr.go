package composefs

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// xattr is an extended attribute as it is written.
type xattr struct {
	tree.Xattr
	shared bool
	offset uint32 // if shared, from the start of the shared attributes
}

// sharedPerInode is how many shared attributes an inode can refer to.
const sharedPerInode = 128

// shared is the list of attributes that several inodes have in common.
type shared struct {
	list    []tree.Xattr // in the order of the image
	size    uint64       // in bytes
	offsets map[tree.Xattr]uint32
	// objects are the offsets of redirect and metacopy of files with the same
	// content, kept apart because almost every file has these two.
	objects map[fsverity.Digest][2]uint32
}

// xattrs returns the attributes of an inode in the order of their names. They
// are valid until the next call.
func (p *image) xattrs(i int) []xattr {
	n := &p.inodes[i]
	list := p.scratch.xattrs[:0]
	for _, x := range n.node.Xattrs {
		if rest, ok := strings.CutPrefix(x.Name, overlayPrefix); ok {
			x.Name = overlayEscape + rest
		}
		list = append(list, xattr{Xattr: x})
	}
	if n.node.HasObject() {
		list = set(list, xattrMetacopy, metacopy(n.node.Digest))
		list = set(list, xattrRedirect, redirect(n.node.Digest))
	}
	if n.isWhiteout() {
		list = set(list, xattrWhiteout, "")
		list = set(list, xattrUserWhiteout, "")
	}
	if n.whiteouts {
		list = set(list, xattrWhiteouts, "")
		list = set(list, xattrUserWhiteouts, "")
		list = set(list, xattrHasWhite, "x")
		list = set(list, xattrUserHasWhite, "x")
	}
	if i == 0 {
		list = set(list, xattrOpaque, "y")
	}
	slices.SortFunc(list, func(a, b xattr) int { return strings.Compare(a.Name, b.Name) })
	p.markShared(list, n.node)
	p.scratch.xattrs = list
	return list
}

func set(list []xattr, name, value string) []xattr {
	for i := range list {
		if list[i].Name == name {
			list[i].Value = value
			return list
		}
	}
	return append(list, xattr{Xattr: tree.Xattr{Name: name, Value: value}})
}

func (p *image) markShared(list []xattr, n *tree.Inode) {
	room := sharedPerInode
	for i := range list {
		x := &list[i]
		switch {
		case room == 0:
			return
		case x.Name == xattrRedirect || x.Name == xattrMetacopy:
			var at [2]uint32
			if at, x.shared = p.shared.objects[n.Digest]; x.Name == xattrRedirect {
				x.offset = at[0]
			} else {
				x.offset = at[1]
			}
		default:
			x.offset, x.shared = p.shared.offsets[x.Xattr]
		}
		if x.shared {
			room--
		}
	}
}

// share finds the attributes that several inodes have, and their offsets.
func (p *image) share() {
	digests := make([]fsverity.Digest, 0, p.objects)
	uses := make(map[tree.Xattr]uint32)
	for i := range p.inodes {
		n := p.inodes[i].node
		if n.HasObject() {
			digests = append(digests, n.Digest)
		}
		if i > 0 && len(n.Xattrs) == 0 && !p.inodes[i].whiteouts && !p.inodes[i].isWhiteout() {
			continue // it has none but those of its object
		}
		for _, x := range p.xattrs(i) {
			if x.Name != xattrRedirect && x.Name != xattrMetacopy {
				uses[x.Xattr]++
			}
		}
	}
	s := &p.shared
	for x, count := range uses {
		if count > 1 {
			s.list = append(s.list, x)
		}
	}
	s.addObjects(digests)
	slices.SortFunc(s.list, func(a, b tree.Xattr) int {
		return -cmp.Or(
			strings.Compare(a.Name, b.Name),
			cmp.Compare(len(a.Value), len(b.Value)),
			strings.Compare(a.Value, b.Value))
	})
	s.place()
}

// addObjects adds the attributes of the contents that several files have.
func (s *shared) addObjects(digests []fsverity.Digest) {
	slices.SortFunc(digests, func(a, b fsverity.Digest) int { return slices.Compare(a[:], b[:]) })
	s.objects = make(map[fsverity.Digest][2]uint32)
	for i := 1; i < len(digests); i++ {
		d := digests[i]
		if _, known := s.objects[d]; known || d != digests[i-1] {
			continue
		}
		s.objects[d] = [2]uint32{}
		s.list = append(s.list, tree.Xattr{Name: xattrMetacopy, Value: metacopy(d)},
			tree.Xattr{Name: xattrRedirect, Value: redirect(d)})
	}
}

// place gives every shared attribute its offset.
func (s *shared) place() {
	s.offsets = make(map[tree.Xattr]uint32)
	for _, x := range s.list {
		s.offsets[x] = uint32(s.size)
		s.size += xattrSize(x)
	}
	for d := range s.objects {
		r := tree.Xattr{Name: xattrRedirect, Value: redirect(d)}
		m := tree.Xattr{Name: xattrMetacopy, Value: metacopy(d)}
		s.objects[d] = [2]uint32{s.offsets[r], s.offsets[m]}
	}
}

// xattrPrefixes are the beginnings of names that EROFS writes as a number.
var xattrPrefixes = [...]struct {
	prefix string
	index  uint8
}{
	{"user.", 1},
	{"system.posix_acl_access", 2},
	{"system.posix_acl_default", 3},
	{"trusted.", 4},
	{"security.", 6},
}

// splitXattr splits a name into the number of its prefix and the rest.
func splitXattr(name string) (index uint8, rest string) {
	for _, x := range xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, x.prefix); ok {
			return x.index, rest
		}
	}
	return 0, name
}

// xattrSize is how many bytes an attribute takes.
func xattrSize(x tree.Xattr) uint64 {
	_, rest := splitXattr(x.Name)
	return roundUp(uint64(xattrEntrySize+len(rest)+len(x.Value)), 4)
}

// xattrArea is how many bytes the attributes of an inode take behind it.
func xattrArea(list []xattr) uint64 {
	if len(list) == 0 {
		return 0
	}
	size := uint64(xattrHeaderSize)
	for _, x := range list {
		if x.shared {
			size += 4
		} else {
			size += xattrSize(x.Xattr)
		}
	}
	return size
}

// nameFilter has a bit cleared for each name that an inode has: it spares the
// kernel a search for names that are not there.
func nameFilter(list []xattr) uint32 {
	const seed = 0x25bbe08f
	filter := uint32(0xffffffff)
	for _, x := range list {
		index, rest := splitXattr(x.Name)
		filter &^= 1 << (xxh32(rest, seed+uint32(index)) % 32)
	}
	return filter
}
