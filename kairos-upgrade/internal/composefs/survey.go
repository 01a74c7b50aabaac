package composefs

import (
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// survey is what a walk over the tree finds.
type survey struct {
	count    int // inodes
	objects  int // of them, files whose content is an object
	minMtime int64
	hasACL   bool
	version  uint32 // of the composefs format
	links    map[*tree.Inode]*link
}

// link is a file with several names. Its inode is where the first of them is,
// in depth-first order.
type link struct {
	dir   *tree.Inode
	name  string
	count uint32
	inode uint32 // its number, once it has one
}

func (l *link) isFirst(dir *tree.Inode, name string) bool { return l.dir == dir && l.name == name }

// look walks the tree, checks that every node can be written, and fills s.
func (s *survey) look(root *tree.Inode) error {
	s.minMtime = root.Mtime
	s.links = make(map[*tree.Inode]*link)
	if err := s.visit(root); err != nil {
		return below("", err)
	}
	seen := map[*tree.Inode]struct{}{root: {}}
	if err := s.descend(root, seen, 0); err != nil {
		return err
	}
	if len(s.links) > 0 {
		s.findFirst(root)
	}
	return nil
}

func (s *survey) descend(dir *tree.Inode, seen map[*tree.Inode]struct{}, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: directories nested deeper than %d", ErrTree, maxDepth)
	}
	for name, child := range dir.Children() {
		if _, again := seen[child]; again {
			if child.IsDir() {
				return below(name, fmt.Errorf("%w: a directory with two names", ErrTree))
			}
			s.addName(child)
			continue
		}
		seen[child] = struct{}{}
		err := s.visit(child)
		if err == nil && child.IsDir() {
			err = s.descend(child, seen, depth+1)
		}
		if err != nil {
			return below(name, err)
		}
	}
	return nil
}

// addName counts the second name of a file, and each one after it.
func (s *survey) addName(n *tree.Inode) {
	if l := s.links[n]; l != nil {
		l.count++
		return
	}
	s.links[n] = &link{count: 2}
}

// findFirst notes the first name of every file that has several.
func (s *survey) findFirst(dir *tree.Inode) {
	for name, child := range dir.Children() {
		if l := s.links[child]; l != nil && l.dir == nil {
			l.dir, l.name = dir, name
		}
		s.findFirst(child)
	}
}

// visit checks one node and takes it into the figures.
func (s *survey) visit(n *tree.Inode) error {
	s.count++
	s.minMtime = min(s.minMtime, n.Mtime)
	switch n.Type() {
	case unix.S_IFDIR, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFBLK:
	case unix.S_IFCHR:
		if isWhiteout(n) {
			s.version = 1
		}
	case unix.S_IFLNK:
		if err := checkTarget(n); err != nil {
			return err
		}
	case unix.S_IFREG:
		if err := checkFile(n); err != nil {
			return err
		}
		if n.HasObject() {
			s.objects++
		}
	default:
		return fmt.Errorf("%w: mode %o has no file type", ErrTree, n.Mode)
	}
	if !n.IsDir() && n.Len() > 0 {
		return fmt.Errorf("%w: children, but not a directory", ErrTree)
	}
	return s.visitXattrs(n)
}

func (s *survey) visitXattrs(n *tree.Inode) error {
	size := xattrHeaderSize
	last := ""
	for _, x := range n.Xattrs {
		if x.Name <= last || len(x.Name) > maxXattrName || strings.Contains(x.Name, "\x00") {
			return fmt.Errorf("%w: extended attribute %.300q is too long, or out of order", ErrTree, x.Name)
		}
		last = x.Name
		size += len(x.Name) + len(x.Value) + 7
		if x.Name == "system.posix_acl_access" || x.Name == "system.posix_acl_default" {
			s.hasACL = true
		}
	}
	if len(n.Xattrs) > 0 && size > maxXattrSize {
		return fmt.Errorf("%w: extended attributes of %d bytes, more than %d", ErrTree, size, maxXattrSize)
	}
	return nil
}

func checkTarget(n *tree.Inode) error {
	switch {
	case n.Content == "", len(n.Content) > maxTarget:
		return fmt.Errorf("%w: a symbolic link's target has 1 to %d bytes, not %d", ErrTree, maxTarget, len(n.Content))
	case strings.Contains(n.Content, "\x00"):
		return fmt.Errorf("%w: a symbolic link's target with a NUL", ErrTree)
	}
	return nil
}

func checkFile(n *tree.Inode) error {
	switch {
	case n.Size < 0:
		return fmt.Errorf("%w: size %d", ErrTree, n.Size)
	case n.HasObject() && n.Digest.IsZero():
		return fmt.Errorf("%w: a file of %d bytes without a digest", ErrTree, n.Size)
	case n.Size > maxFileSize:
		return fmt.Errorf("%w: a file of %d bytes, more than %d", ErrTree, n.Size, int64(maxFileSize))
	case n.HasObject():
		return nil
	case int64(len(n.Content)) != n.Size:
		return fmt.Errorf("%w: a file of %d bytes with a content of %d", ErrTree, n.Size, len(n.Content))
	}
	return nil
}
