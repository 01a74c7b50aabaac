package layer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// Merge lays the layers over each other, the first one at the bottom, and
// returns the tree. The nodes of the layers become those of the tree: the
// layers must not be used any more, and none may be there twice (see Clone).
//
// As the OCI image specification has it, a whiteout takes away what lower
// layers brought, never what its own layer brings; a directory that several
// layers have takes the metadata of the topmost one that has an entry for it,
// and anything else replaces what was there. Where an upper layer has
// "lib/x" and a lower one a symbolic link "lib", the link gives way to a
// directory, as it does on overlayfs. A hard link to a file of a lower layer
// means the file as it was before its layer was applied.
//
// Error: ErrLayer, for a hard link to what isn't there.
func Merge(layers []*Layer) (*tree.Inode, error) { return MergeTelling(layers, nil) }

// ways are the links that programs and their dynamic loader are found by, on a
// system whose programs are all in /usr.
var ways = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr/bin", "usr/sbin", "usr/lib64"}

// MergeTelling does the same, and calls tell for each layer, counted from 0,
// that makes something else of one of the links by which programs are found,
// such as lib: now is what, "" where it is gone. No program starts any more where
// the link led to the dynamic loader.
func MergeTelling(layers []*Layer, tell func(layer int, name, now string)) (*tree.Inode, error) {
	root := tree.NewDir(implicitPerm)
	links := map[string]bool{}
	for i, l := range layers {
		if err := l.resolve(root); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		l.mergeDir(root, l.root)
		for _, way := range ways {
			n := lookup(root, way)
			is := n != nil && n.IsSymlink()
			if tell != nil && !is && (links[way] || slices.Contains(l.unlinked, way)) {
				now := ""
				if n != nil {
					now = describe(n)
				}
				tell(i, way, now)
			}
			links[way] = is
		}
	}
	return root, nil
}

// lookup returns what a path leads to without links, nil if there is nothing.
func lookup(root *tree.Inode, path string) *tree.Inode {
	n := root
	for name := range strings.SplitSeq(path, "/") {
		if n == nil || !n.IsDir() {
			return nil
		}
		n = n.Lookup(name)
	}
	return n
}

// resolve replaces the links to lower layers by the files they mean.
func (l *Layer) resolve(lower *tree.Inode) error {
	if l.lowerLinks == 0 {
		return nil
	}
	for _, dir := range l.root.Walk() {
		if !dir.IsDir() {
			continue
		}
		links := make(map[string]string)
		for name, n := range dir.Children() {
			if isLowerLink(n) {
				links[name] = n.Content
			}
		}
		for name, path := range links {
			target, err := findFile(lower, path)
			if err != nil {
				return fmt.Errorf("hard link %q to %q: %w", name, clip(path), err)
			}
			if err := dir.Insert(name, target); err != nil {
				return err
			}
		}
	}
	l.lowerLinks = 0
	return nil
}

// findFile returns what a hard link to a path of a lower layer is to.
func findFile(root *tree.Inode, path string) (*tree.Inode, error) {
	n := root
	for name := range strings.SplitSeq(path, "/") {
		if n.IsSymlink() {
			return nil, fmt.Errorf("%w: the way there is a symbolic link", ErrLayer)
		}
		if n = n.Lookup(name); n == nil {
			return nil, fmt.Errorf("%w: no such file in this or a lower layer", ErrLayer)
		}
	}
	if n.IsDir() {
		return nil, fmt.Errorf("%w: it is a directory", ErrLayer)
	}
	return n, nil
}

// mergeDir lays the directory upper of the layer over the directory lower.
func (l *Layer) mergeDir(lower, upper *tree.Inode) {
	m := l.marks[upper]
	if m == nil || !m.implicit {
		lower.CopyMetadata(upper)
	}
	if m != nil && m.opaque {
		lower.Clear()
	}
	if m != nil {
		for name := range m.whiteouts {
			lower.Remove(name)
		}
	}
	for name, child := range upper.Children() {
		if child.IsDir() {
			if old := lower.Lookup(name); old != nil && old.IsDir() {
				l.mergeDir(old, child)
				continue
			}
		}
		// The name is one that the layer's own directory holds: it can't be
		// refused here.
		_ = lower.Insert(name, child)
	}
}
