package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"
)

// What these tests do not prove: what a tree looks like where containers/storage
// itself gives two answers. Its two ways of laying layers over each other
// differ in directories without an entry of their own (and make them with the
// time of the day), in entries beneath a symbolic link of a lower layer, and in
// whiteouts beside files of their own layer; there Merge follows what its
// documentation says, see TestMerge.

// invent returns the tar entries of a layer over the given tree, of which it
// changes a part.
type inventor struct {
	*rand.Rand
	t     *testing.T
	names int
	// explicit: every directory has an entry in each layer that has anything
	// beneath it, as layers written from a file system do.
	explicit bool
}

func (v *inventor) header(name string, kind byte) tar.Header {
	h := tar.Header{
		Name: name, Typeflag: kind, Mode: int64(v.IntN(0o1000)) | 0o400, Uid: v.IntN(3), Gid: v.IntN(3),
		ModTime: time.Unix(int64(v.IntN(2_000_000_000)), 0), PAXRecords: map[string]string{},
	}
	if v.IntN(8) == 0 && (kind != tar.TypeDir || v.explicit) { // directories inherit setgid from the one above
		h.Mode |= 0o6000
	}
	if (kind == tar.TypeReg || kind == tar.TypeDir) && v.IntN(6) == 0 {
		h.PAXRecords["SCHILY.xattr.user.test"] = fmt.Sprint(v.IntN(1000))
	}
	if kind == tar.TypeReg && v.IntN(10) == 0 {
		h.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	return h
}

// layer invents one layer over lower.
func (v *inventor) layer(lower *tree.Inode) []byte {
	headers := make(map[string]tar.Header)
	var links []tar.Header
	bodies := make(map[string]string)
	var dirs, files []string // of this layer
	add := func(h tar.Header) { headers[h.Name] = h }
	addDir := func(path string) {
		dirs = append(dirs, path)
		add(v.header(path+"/", tar.TypeDir))
	}
	if v.explicit || v.IntN(2) == 0 {
		add(v.header("./", tar.TypeDir))
	}
	// A directory of lower or of this layer to put something into.
	lowerDirs, lowerFiles := paths(lower)
	pick := func() string {
		all := append(slices.Clone(lowerDirs), dirs...)
		if len(all) == 0 || v.IntN(4) == 0 {
			return ""
		}
		dir := all[v.IntN(len(all))]
		if v.explicit {
			for at := dir; at != "."; at = filepath.Dir(at) {
				if _, ok := headers[at+"/"]; !ok {
					addDir(at)
				}
			}
		}
		return dir + "/"
	}
	taken := make(map[string]bool) // names whose type is settled in this layer
	for range 5 + v.IntN(25) {
		v.names++
		name := pick() + fmt.Sprintf("n%d", v.names)
		switch v.IntN(9) {
		case 0, 1:
			addDir(name)
		case 2:
			h := v.header(name, tar.TypeSymlink)
			h.Linkname = []string{"x", "y/../z", strings.Repeat("z/", 200)}[v.IntN(3)]
			add(h)
		case 3:
			add(v.header(name, tar.TypeFifo))
		case 4:
			h := v.header(name, tar.TypeChar)
			h.Devmajor, h.Devminor = 1, int64(3+v.IntN(5))
			add(h)
		case 5:
			if len(files) > 0 {
				target := files[v.IntN(len(files))]
				h := headers[target]
				h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
				links = append(links, h)
			}
		default:
			add(v.header(name, tar.TypeReg))
			bodies[name] = strings.Repeat(fmt.Sprint(v.names), v.IntN(60))
			files = append(files, name)
		}
	}
	// Take away or replace some of what is below.
	for _, path := range append(lowerFiles, lowerDirs...) {
		dir, name := filepath.Split(path)
		if _, mine := headers[path+"/"]; mine || taken[path] || v.explicit && dir != "" && headers[dir].Name == "" {
			continue
		}
		switch v.IntN(20) {
		case 0:
			add(v.header(dir+whiteoutPrefix+name, tar.TypeReg))
			taken[path] = true
		case 1:
			if n := lower.Find(path); !n.IsDir() || !beneath(headers, path) {
				add(v.header(path, tar.TypeReg))
				bodies[path] = "replaced"
				taken[path] = true
			}
		}
	}
	for _, dir := range dirs {
		if v.IntN(6) == 0 && lower.Find(dir) != nil {
			add(v.header(dir+"/"+opaqueName, tar.TypeReg))
			// overlayfs lists whiteouts that hide nothing.
			maps.DeleteFunc(headers, func(name string, _ tar.Header) bool {
				return strings.HasPrefix(name, dir+"/") && strings.HasPrefix(filepath.Base(name), whiteoutPrefix) &&
					filepath.Base(name) != opaqueName
			})
		}
	}
	v.dropBeneath(headers, taken, bodies)
	links = slices.DeleteFunc(links, func(h tar.Header) bool { return headers[h.Linkname].Name == "" })
	if !v.explicit { // overlayfs has no hard links between layers
		links = append(links, v.lowerLinks(lower, lowerFiles, headers, taken)...)
	}
	return v.write(headers, links, bodies)
}

// lowerLinks are hard links to files of lower layers that this one leaves
// alone.
func (v *inventor) lowerLinks(lower *tree.Inode, files []string, headers map[string]tar.Header, taken map[string]bool) []tar.Header {
	var links []tar.Header
	for _, path := range files {
		n := lower.Find(path)
		hidden := !n.IsRegular() || v.IntN(5) != 0
		for at := path; at != "."; at = filepath.Dir(at) {
			_, opaque := headers[at+"/"+opaqueName]
			hidden = hidden || taken[at] || opaque
		}
		if hidden {
			continue
		}
		v.names++
		h := v.header(fmt.Sprintf("n%d", v.names), tar.TypeLink)
		h.Linkname = path
		// Of the metadata, containers/storage takes over owner and extended
		// attributes only.
		h.Uid, h.Gid, h.PAXRecords = int(n.UID), int(n.GID), nil
		links = append(links, h)
	}
	return links
}

// dropBeneath removes entries that lie beneath a name which this layer takes
// away or makes a file.
func (v *inventor) dropBeneath(headers map[string]tar.Header, taken map[string]bool, bodies map[string]string) {
	for name := range headers {
		for at := filepath.Dir(strings.TrimSuffix(name, "/")); at != "."; at = filepath.Dir(at) {
			if taken[at] {
				delete(headers, name)
				delete(bodies, name)
			}
		}
	}
}

func beneath(headers map[string]tar.Header, path string) bool {
	for name := range headers {
		if strings.HasPrefix(name, path+"/") {
			return true
		}
	}
	return false
}

// write puts directories before what is in them, whiteouts before other files
// and hard links behind their targets.
func (v *inventor) write(headers map[string]tar.Header, links []tar.Header, bodies map[string]string) []byte {
	names := slices.SortedFunc(maps.Keys(headers), func(a, b string) int {
		rank := func(s string) int {
			switch {
			case strings.HasSuffix(s, "/"):
				return 0
			case strings.HasPrefix(filepath.Base(s), whiteoutPrefix):
				return 1
			}
			return 2
		}
		if r := rank(a) - rank(b); r != 0 {
			return r
		}
		return strings.Compare(a, b)
	})
	var all []tar.Header
	for _, name := range names {
		all = append(all, headers[name])
	}
	for _, link := range links {
		if dir := filepath.Dir(link.Name); dir == "." || !v.explicit || headers[dir+"/"].Name != "" {
			all = append(all, link)
		}
	}
	return imagetest.Tar(v.t, all, bodies)
}

func paths(root *tree.Inode) (dirs, files []string) {
	for path, n := range root.Walk() {
		switch {
		case path == ".":
		case n.IsDir():
			dirs = append(dirs, path)
		default:
			files = append(files, path)
		}
	}
	return dirs, files
}

// invented returns the tar streams of an image's layers.
func invented(t *testing.T, seed uint64, explicit bool) [][]byte {
	v := &inventor{Rand: rand.New(rand.NewPCG(seed, 7)), t: t, explicit: explicit}
	var tars [][]byte
	for range 1 + v.IntN(5) {
		tars = append(tars, v.layer(merged(t, tars)))
	}
	return tars
}

func merged(t *testing.T, tars [][]byte) *tree.Inode {
	t.Helper()
	var layers []*Layer
	for i, data := range tars {
		l, err := Import(t.Context(), bytes.NewReader(data), Discard, Limits{})
		if err != nil {
			t.Fatalf("layer %d: %v", i+1, err)
		}
		layers = append(layers, again(t, l))
	}
	root, err := Merge(layers)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can unpack devices and owners")
	}
}

func fromDir(t *testing.T, dir string) *tree.Inode {
	t.Helper()
	root, err := tree.FromDir(t.Context(), dir, tree.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// compare compares all but the root directory, whose entry containers/storage
// ignores (and tree.Normalize replaces).
func compare(t *testing.T, have, want *tree.Inode) {
	t.Helper()
	have.CopyMetadata(want)
	if have.Len() == 0 {
		t.Error("the tree is empty")
	}
	differ(t, "the tree", dump(have), dump(want))
}

// TestOverlay unpacks each layer as Podman does it, has the kernel's overlayfs
// lay them over each other, and compares.
func TestOverlay(t *testing.T) {
	needRoot(t)
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			tars := invented(t, seed, true)
			dir := overlay(t, tars)
			compare(t, merged(t, tars), fromDir(t, dir))
		})
	}
}

// overlay unpacks and mounts the layers and returns the mount point.
func overlay(t *testing.T, tars [][]byte) string {
	t.Helper()
	base := t.TempDir()
	var lowers []string
	for i, data := range tars {
		dir := filepath.Join(base, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		options := &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat}
		if err := archive.Untar(bytes.NewReader(data), dir, options); err != nil {
			t.Fatalf("layer %d: %v", i+1, err)
		}
		lowers = append([]string{fmt.Sprint(i)}, lowers...)
	}
	// overlayfs wants two layers at least.
	for _, name := range []string{"bottom", "mount"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(base)
	options := "lowerdir=" + strings.Join(append(lowers, "bottom"), ":")
	if err := unix.Mount("overlay", "mount", "overlay", unix.MS_RDONLY, options); err != nil {
		t.Skipf("no overlayfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(filepath.Join(base, "mount"), 0); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(base, "mount")
}

// TestUnpackLayer unpacks one layer after the other into one directory, as
// container tools do it without overlayfs, and compares. Directories that some
// layer changes without an entry have the time of the day there: mtimes of
// directories are left out.
func TestUnpackLayer(t *testing.T) {
	needRoot(t)
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			tars := invented(t, seed, false)
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for i, data := range tars {
				if _, err := archive.UnpackLayer(dir, bytes.NewReader(data), &archive.TarOptions{}); err != nil {
					t.Fatalf("layer %d: %v", i+1, err)
				}
			}
			have, want := merged(t, tars), fromDir(t, dir)
			for _, root := range []*tree.Inode{have, want} {
				for _, n := range root.Walk() {
					if n.IsDir() {
						n.Mtime = 0
					}
				}
			}
			compare(t, have, want)
		})
	}
}
