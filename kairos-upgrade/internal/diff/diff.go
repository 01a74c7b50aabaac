// Package diff compares two operating systems by their trees: packages, units of
// systemd, files.
package diff

import (
	"cmp"
	"crypto/sha256"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/pull"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// Image is one of the two, with a normalised tree.
type Image struct {
	Root *tree.Inode
	// Open opens small files and databases of packages.
	Open func(*tree.Inode) (io.ReadCloser, error)
}

// Package is a package that differs.
type Package struct {
	Name string `json:"name"`
	Old  string `json:"old_version"` // "": it is added
	New  string `json:"new_version"` // "": it is removed
}

// Kinds of changes.
const (
	Added    = "added"
	Removed  = "removed"
	Changed  = "changed"
	Enabled  = "enabled"
	Disabled = "disabled"
)

// Unit is a unit that differs.
type Unit struct {
	Name   string `json:"name"`
	Change string `json:"change"`
}

// File is a file that differs.
type File struct {
	Path   string `json:"path"` // absolute
	Change string `json:"change"`
}

// Result is what differs.
type Result struct {
	Packages     []Package `json:"packages"`
	Units        []Unit    `json:"units"`
	FilesAdded   int       `json:"files_added"`
	FilesRemoved int       `json:"files_removed"`
	FilesChanged int       `json:"files_changed"`
	Paths        []File    `json:"paths,omitempty"` // if they were asked for
	NotCompared  []string  `json:"not_compared"`    // texts
}

// Compare compares two images, and lists the paths that differ if that is asked.
func Compare(a, b Image, list bool) Result {
	r := Result{Packages: []Package{}, Units: []Unit{}, NotCompared: []string{}}
	r.packages(a, b)
	r.units(a.Root, b.Root)
	count := map[string]*int{Added: &r.FilesAdded, Removed: &r.FilesRemoved, Changed: &r.FilesChanged}
	walk("/", a.Root, b.Root, func(name, change string) {
		*count[change]++
		if list {
			r.Paths = append(r.Paths, File{name, change})
		}
	})
	return r
}

func (r *Result) packages(a, b Image) {
	if old, now := rpm(a.Root), rpm(b.Root); old != nil || now != nil {
		how := "they differ"
		if old != nil && now != nil && same(old, now) {
			how = "they are the same"
		}
		r.NotCompared = append(r.NotCompared, "packages of rpm: its databases are compared as files only, and "+how)
	}
	was, err := packages(a)
	is, errB := packages(b)
	if err := cmp.Or(err, errB); err != nil {
		r.NotCompared = append(r.NotCompared, "packages: "+err.Error())
		return
	}
	for name, version := range was {
		if other, ok := is[name]; !ok || other != version {
			r.Packages = append(r.Packages, Package{name, version, other})
		}
	}
	for name, version := range is {
		if _, ok := was[name]; !ok {
			r.Packages = append(r.Packages, Package{Name: name, New: version})
		}
	}
	slices.SortFunc(r.Packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
}

// unitDirs are where units are, the one that wins first: systemd.unit(5).
var unitDirs = []string{"etc/systemd/system", "usr/lib/systemd/system"}

var unitKinds = []string{".service", ".socket", ".timer", ".mount", ".automount", ".path", ".target", ".swap", ".slice"}

// unitsOf returns the units of a tree, and for each that is enabled, what wants it.
func unitsOf(root *tree.Inode) (units map[string]*tree.Inode, enabled map[string]bool) {
	units, enabled = map[string]*tree.Inode{}, map[string]bool{}
	for _, dir := range unitDirs {
		d := boot.Resolve(root, dir)
		if d == nil {
			continue
		}
		for name, n := range d.Children() {
			switch kind := path.Ext(name); {
			case n.IsDir() && (kind == ".wants" || kind == ".requires" || kind == ".upholds"):
				for unit := range n.Children() {
					enabled[unit] = true
				}
			case !n.IsDir() && slices.Contains(unitKinds, kind) && units[name] == nil:
				units[name] = n
			}
		}
	}
	return units, enabled
}

func (r *Result) units(a, b *tree.Inode) {
	was, wasOn := unitsOf(a)
	is, isOn := unitsOf(b)
	add := func(name, change string) { r.Units = append(r.Units, Unit{name, change}) }
	for name, n := range was {
		if other := is[name]; other == nil {
			add(name, Removed)
		} else if !same(n, other) {
			add(name, Changed)
		}
	}
	for name := range is {
		if was[name] == nil {
			add(name, Added)
		}
	}
	for name := range isOn {
		if !wasOn[name] {
			add(name, Enabled)
		}
	}
	for name := range wasOn {
		if !isOn[name] {
			add(name, Disabled)
		}
	}
	slices.SortFunc(r.Units, func(a, b Unit) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Change, b.Change))
	})
}

// walk calls found for what differs beneath two directories, either of which may
// be nil or something else. Directories that are added or removed are no files.
func walk(at string, a, b *tree.Inode, found func(name, change string)) {
	old, now := children(a), children(b)
	names := slices.AppendSeq(slices.Collect(maps.Keys(old)), func(yield func(string) bool) {
		for name := range now {
			if old[name] == nil && !yield(name) {
				return
			}
		}
	})
	slices.Sort(names)
	for _, name := range names {
		x, y, full := old[name], now[name], at+name
		switch {
		case y == nil && !x.IsDir():
			found(full, Removed)
		case x == nil && !y.IsDir():
			found(full, Added)
		case x != nil && y != nil && !same(x, y):
			found(full, Changed)
		}
		if x != nil && x.IsDir() || y != nil && y.IsDir() {
			walk(full+"/", x, y, found)
		}
	}
}

func children(n *tree.Inode) map[string]*tree.Inode {
	if n == nil || n.Len() == 0 {
		return nil
	}
	return maps.Collect(n.Children())
}

// same reports whether two nodes are the same to a program that runs: times don't
// matter.
func same(a, b *tree.Inode) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Rdev == b.Rdev && a.Size == b.Size &&
		a.Digest == b.Digest && slices.Equal(a.Xattrs, b.Xattrs) && (a.Content == b.Content || plain(a) == plain(b))
}

// plain is the content of a small file by its sum, however it is known.
func plain(n *tree.Inode) string {
	if n.IsRegular() && int64(len(n.Content)) == n.Size {
		return pull.SmallSum(sha256.Sum256([]byte(n.Content)))
	}
	return n.Content
}
