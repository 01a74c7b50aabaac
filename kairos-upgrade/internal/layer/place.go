package layer

import (
	"archive/tar"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// Names with a meaning of their own, from the OCI image specification.
const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// splitPath splits a name of a tar entry into components. The root is none.
func splitPath(name string) ([]string, error) {
	switch {
	case name == "":
		return nil, fmt.Errorf("%w: empty name", ErrLayer)
	case strings.IndexByte(name, 0) >= 0:
		return nil, fmt.Errorf("%w: NUL in a name", ErrLayer)
	case len(name) > pathMax:
		return nil, fmt.Errorf("%w: name of %d bytes", ErrLayer, len(name))
	}
	path := make([]string, 0, strings.Count(name, "/")+1)
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "", part == ".":
			continue
		case part == "..":
			return nil, fmt.Errorf("%w: .. in a name", ErrLayer)
		case len(part) > tree.NameMax:
			return nil, fmt.Errorf("%w: component of %d bytes in a name", ErrLayer, len(part))
		}
		path = append(path, part)
	}
	return path, nil
}

func checkTarget(target string) error {
	if target == "" || len(target) > pathMax || strings.IndexByte(target, 0) >= 0 {
		return fmt.Errorf("%w: link target %q of %d bytes", ErrLayer, clip(target), len(target))
	}
	return nil
}

// linksMax is how many symbolic links a name may lead through, as on Linux.
const linksMax = 40

// resolve returns path without the symbolic links of the layer itself on the way
// to its last component, which lead to places within the layer whatever their
// targets are: what lies beneath such a link was packed from there, and archives
// that are put together from several, one of which has the link lib, name
// lib/x. Where nothing is, or a file, nothing is said against it here.
func (im *importer) resolve(path []string) ([]string, error) {
	if im.direct(path) {
		return path, nil
	}
	todo, last := path[:len(path)-1], path[len(path)-1]
	way := []*tree.Inode{im.layer.root} // nil: not there
	var at []string
	for links, steps := 0, 0; len(todo) > 0; steps++ {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			if len(at) > 0 {
				at, way = at[:len(at)-1], way[:len(way)-1]
			}
			continue
		}
		var next *tree.Inode
		if dir := way[len(way)-1]; dir != nil && dir.IsDir() {
			next = dir.Lookup(name)
		}
		if next == nil || !next.IsSymlink() {
			at, way = append(at, name), append(way, next)
			continue
		}
		if links++; links > linksMax || steps > pathMax {
			return nil, fmt.Errorf("%w: too many symbolic links in a name", ErrLayer)
		}
		target := next.Content
		if strings.HasPrefix(target, "/") {
			at, way = at[:0], way[:1]
		}
		var through []string
		for part := range strings.SplitSeq(target, "/") {
			if len(part) > tree.NameMax {
				return nil, fmt.Errorf("%w: component of %d bytes in the target of a link", ErrLayer, len(part))
			}
			if part != "" && part != "." {
				through = append(through, part)
			}
		}
		todo = append(through, todo...)
	}
	at = append(at, last)
	n := len(strings.Join(at, "/"))
	if n > pathMax {
		return nil, fmt.Errorf("%w: name of %d bytes behind symbolic links", ErrLayer, n)
	}
	return at, im.spent.meta(n)
}

// direct reports whether no symbolic link of the layer is on the way of a path.
func (im *importer) direct(path []string) bool {
	dir := im.layer.root
	for _, name := range path[:max(len(path), 1)-1] {
		next := dir.Lookup(name)
		if next == nil || !next.IsDir() {
			return next == nil || !next.IsSymlink()
		}
		dir = next
	}
	return true
}

// parent returns the directory that holds path, and makes the directories on
// the way that are missing.
func (im *importer) parent(path []string) (*tree.Inode, error) {
	dir := im.layer.root
	for i, name := range path[:len(path)-1] {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return nil, fmt.Errorf("%w: %q is a whiteout, not a directory", ErrLayer, name)
		}
		next := dir.Lookup(name)
		if next == nil {
			if err := im.spent.entry(); err != nil {
				return nil, err
			}
			next = tree.NewDir(implicitPerm)
			im.layer.mark(next).implicit = true
			if err := dir.Insert(strings.Clone(name), next); err != nil {
				return nil, err
			}
		}
		if !next.IsDir() {
			return nil, fmt.Errorf("%w: %q is %s in the same layer, not a directory",
				ErrLayer, strings.Join(path[:i+1], "/"), describe(next))
		}
		dir = next
	}
	return dir, nil
}

// place puts a node under its name, in place of what was there. Of two
// directories the second one's metadata stays, and the content of both.
func (im *importer) place(path []string, n *tree.Inode) error {
	dir, old, name := im.layer.root, im.layer.root, ""
	if len(path) == 0 {
		if !n.IsDir() {
			return fmt.Errorf("%w: the root is no directory", ErrLayer)
		}
	} else {
		var err error
		if dir, err = im.parent(path); err != nil {
			return err
		}
		name = path[len(path)-1]
		old = dir.Lookup(name)
	}
	if n.IsDir() && old != nil && old.IsDir() {
		old.CopyMetadata(n)
		if m := im.layer.marks[old]; m != nil {
			m.implicit = false
		}
		return nil
	}
	if old != nil && old.IsSymlink() && !n.IsSymlink() {
		im.layer.unlinked = append(im.layer.unlinked, strings.Join(path, "/"))
	}
	im.replaced(old)
	return dir.Insert(strings.Clone(name), n)
}

// replaced forgets what is known of a node, and beneath it, that loses a name.
func (im *importer) replaced(n *tree.Inode) {
	switch {
	case n == nil:
	case isLowerLink(n):
		im.layer.lowerLinks--
	case n.IsDir():
		delete(im.layer.marks, n)
		for _, child := range n.Children() {
			im.replaced(child)
		}
	}
}

// hardLink gives a file another name. A target that the layer itself does not
// hold belongs to a lower layer and is looked up by Merge. The metadata of such
// an entry only repeats that of the file: it is left aside, as GNU tar and
// ostree do it.
func (im *importer) hardLink(path []string, h *tar.Header) error {
	target, err := splitPath(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	if len(path) == 0 || len(target) == 0 {
		return fmt.Errorf("%w: hard link to or from the root", ErrLayer)
	}
	if target, err = im.resolve(target); err != nil {
		return fmt.Errorf("hard link to %q: %w", clip(h.Linkname), err)
	}
	n, err := im.linkTarget(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", clip(h.Linkname), err)
	}
	dir, err := im.parent(path)
	if err != nil {
		return err
	}
	name := path[len(path)-1]
	old := dir.Lookup(name)
	if old == n {
		return nil
	}
	if isLowerLink(n) {
		im.layer.lowerLinks++
	}
	im.replaced(old)
	return dir.Insert(strings.Clone(name), n)
}

// linkTarget returns the node that a hard link is to, a lowerLink if the layer
// does not hold it.
func (im *importer) linkTarget(path []string) (*tree.Inode, error) {
	dir := im.layer.root
	for i, name := range path {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return nil, fmt.Errorf("%w: it is a whiteout", ErrLayer)
		}
		next := dir.Lookup(name)
		if next == nil {
			return im.lowerTarget(path, i)
		}
		last := i == len(path)-1
		switch {
		case last && next.IsDir():
			return nil, fmt.Errorf("%w: it is a directory", ErrLayer)
		case !last && !next.IsDir():
			return nil, fmt.Errorf("%w: %q is %s", ErrLayer, strings.Join(path[:i+1], "/"), describe(next))
		}
		dir = next
	}
	return dir, nil
}

// lowerTarget returns a link to a file of a lower layer, unless whiteouts that
// came before have hidden it. The layer has path[:i], not path[i].
func (im *importer) lowerTarget(path []string, i int) (*tree.Inode, error) {
	hidden := im.hides(im.layer.root, path[0])
	at := im.layer.root
	for j := 0; j < i; j++ {
		at = at.Lookup(path[j])
		hidden = hidden || im.hides(at, path[j+1])
	}
	if hidden {
		return nil, fmt.Errorf("%w: a whiteout of the same layer hides it", ErrLayer)
	}
	target := strings.Join(path, "/")
	if err := im.spent.meta(len(target)); err != nil {
		return nil, err
	}
	return &tree.Inode{Mode: lowerLink, Content: target, Size: int64(len(target))}, nil
}

// hides reports whether nothing called name shows through a directory.
func (im *importer) hides(dir *tree.Inode, name string) bool {
	m := im.layer.marks[dir]
	if m == nil {
		return false
	}
	_, gone := m.whiteouts[name]
	return gone || m.opaque
}

// whiteout handles entries that are names to be taken away, and reports
// whether path is one.
func (im *importer) whiteout(path []string) (bool, error) {
	for _, name := range path {
		if strings.HasPrefix(name, aufsPrefix) && name != opaqueName {
			return true, nil // bookkeeping of AUFS
		}
	}
	if len(path) == 0 {
		return false, nil
	}
	name, ok := strings.CutPrefix(path[len(path)-1], whiteoutPrefix)
	if !ok {
		return false, nil
	}
	dir, err := im.parent(path)
	if err != nil {
		return true, err
	}
	if path[len(path)-1] == opaqueName {
		im.layer.mark(dir).opaque = true
		return true, nil
	}
	if name == "" || name == "." || name == ".." {
		return true, fmt.Errorf("%w: whiteout of nothing", ErrLayer)
	}
	m := im.layer.mark(dir)
	if m.whiteouts == nil {
		m.whiteouts = make(map[string]struct{})
	}
	m.whiteouts[strings.Clone(name)] = struct{}{}
	return true, nil
}

// describe names the type of a node for people.
func describe(n *tree.Inode) string {
	switch n.Type() {
	case lowerLink:
		return "a hard link"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFREG:
		return "a file"
	}
	return "a special file"
}

// clip shortens a string for a message.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
