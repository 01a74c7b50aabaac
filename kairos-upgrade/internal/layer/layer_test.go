package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// dump describes every name of a tree in one line. Hard links refer to the
// first name.
func dump(root *tree.Inode) map[string]string {
	lines := make(map[string]string)
	first := make(map[*tree.Inode]string)
	for path, n := range root.Walk() {
		if name, seen := first[n]; seen {
			lines[path] = "link to " + name
			continue
		}
		if !n.IsDir() {
			first[n] = path
		}
		lines[path] = describeNode(n)
	}
	return lines
}

func describeNode(n *tree.Inode) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%o %d:%d @%d", n.Mode, n.UID, n.GID, n.Mtime)
	switch {
	case n.HasObject():
		fmt.Fprintf(&s, " %d %.12s", n.Size, n.Digest)
	case n.IsRegular(), n.IsSymlink():
		fmt.Fprintf(&s, " %q", n.Content)
	case !n.IsDir():
		fmt.Fprintf(&s, " dev %#x", n.Rdev)
	}
	for _, x := range n.Xattrs {
		fmt.Fprintf(&s, " %s=%q", x.Name, x.Value)
	}
	return s.String()
}

// differ reports the lines in which two dumps differ.
func differ(t *testing.T, what string, have, want map[string]string) {
	t.Helper()
	names := maps.Clone(have)
	maps.Copy(names, want)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if have[name] != want[name] {
			t.Errorf("%s: %q\n have %s\n want %s", what, name, have[name], want[name])
		}
	}
}

// entry makes a tar header from a short form: "PATH/" is a directory, "PATH"
// a file, "PATH -> TARGET" a symbolic and "PATH => TARGET" a hard link.
func entry(s string) tar.Header {
	h := tar.Header{Mode: 0o644, ModTime: time.Unix(1000, 0)}
	switch {
	case strings.Contains(s, " -> "):
		h.Name, h.Linkname, _ = strings.Cut(s, " -> ")
		h.Typeflag = tar.TypeSymlink
	case strings.Contains(s, " => "):
		h.Name, h.Linkname, _ = strings.Cut(s, " => ")
		h.Typeflag = tar.TypeLink
	case strings.HasSuffix(s, "/"):
		h.Name, h.Typeflag, h.Mode = s, tar.TypeDir, 0o755
	default:
		h.Name, h.Typeflag = s, tar.TypeReg
	}
	return h
}

// build imports a layer of entries in short form; the content of a file is its
// name.
func build(t *testing.T, entries ...string) (*Layer, error) {
	t.Helper()
	var headers []tar.Header
	bodies := make(map[string]string)
	for _, e := range entries {
		h := entry(e)
		headers = append(headers, h)
		bodies[h.Name] = h.Name
	}
	return Import(t.Context(), bytes.NewReader(imagetest.Tar(t, headers, bodies)), Discard, Limits{})
}

func mustBuild(t *testing.T, entries ...string) *Layer {
	t.Helper()
	l, err := build(t, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// names lists a tree in short form: directories end with a slash.
func names(root *tree.Inode) []string {
	var list []string
	first := make(map[*tree.Inode]string)
	for path, n := range root.Walk() {
		switch {
		case path == ".":
		case n.IsDir():
			list = append(list, path+"/")
		case n.IsSymlink():
			list = append(list, path+" -> "+n.Content)
		case first[n] != "":
			list = append(list, path+" => "+first[n])
		default:
			first[n] = path
			list = append(list, path)
		}
	}
	return list
}

func TestMerge(t *testing.T) {
	for name, test := range map[string]struct {
		layers [][]string
		want   []string
	}{
		"nothing":        {nil, nil},
		"one layer":      {[][]string{{"a/", "a/b", "c"}}, []string{"a/", "a/b", "c"}},
		"any order":      {[][]string{{"c", "a/b", "a/"}}, []string{"a/", "a/b", "c"}},
		"spellings":      {[][]string{{"./", "./a/", "/b", "c//d", "e/./f"}}, []string{"a/", "b", "c/", "c/d", "e/", "e/f"}},
		"last one stays": {[][]string{{"a", "a -> x", "b/", "b/c", "b"}}, []string{"a -> x", "b"}},

		"whiteout":                   {[][]string{{"a", "b"}, {".wh.a"}}, []string{"b"}},
		"whiteout of a directory":    {[][]string{{"a/", "a/b"}, {".wh.a"}}, nil},
		"whiteout of nothing":        {[][]string{{"a"}, {"d/.wh.b"}}, []string{"a", "d/"}},
		"whiteout after the file":    {[][]string{{"a"}, {"a", ".wh.a"}}, []string{"a"}},
		"whiteout before the file":   {[][]string{{"a"}, {".wh.a", "a"}}, []string{"a"}},
		"whiteout and directory":     {[][]string{{"a/", "a/old"}, {"a/", "a/new", ".wh.a"}}, []string{"a/", "a/new"}},
		"whiteout below a directory": {[][]string{{"a/", "a/b", "a/c"}, {"a/.wh.b"}}, []string{"a/", "a/c"}},
		"whiteout, and back":         {[][]string{{"a"}, {".wh.a"}, {"a/"}}, []string{"a/"}},
		"its own layer's files stay": {[][]string{{"a/.wh.b", "a/b"}}, []string{"a/", "a/b"}},

		"opaque":                     {[][]string{{"a/", "a/b"}, {"a/", "a/.wh..wh..opq", "a/c"}}, []string{"a/", "a/c"}},
		"opaque at the end":          {[][]string{{"a/", "a/b"}, {"a/", "a/c", "a/.wh..wh..opq"}}, []string{"a/", "a/c"}},
		"opaque without a directory": {[][]string{{"a/", "a/b"}, {"a/.wh..wh..opq"}}, []string{"a/"}},
		"opaque root":                {[][]string{{"a", "b/", "b/c"}, {".wh..wh..opq", "d"}}, []string{"d"}},
		"opaque over a file":         {[][]string{{"a"}, {"a/", "a/.wh..wh..opq"}}, []string{"a/"}},
		"opaque deep below":          {[][]string{{"a/", "a/b/", "a/b/c", "a/d"}, {"a/b/.wh..wh..opq"}}, []string{"a/", "a/b/", "a/d"}},
		"opaque twice":               {[][]string{{"a/x"}, {"a/.wh..wh..opq", "a/y"}, {"a/.wh..wh..opq", "a/z"}}, []string{"a/", "a/z"}},

		"file to directory":              {[][]string{{"a"}, {"a/", "a/b"}}, []string{"a/", "a/b"}},
		"directory to file":              {[][]string{{"a/", "a/b"}, {"a"}}, []string{"a"}},
		"directory to link":              {[][]string{{"a/", "a/b"}, {"a -> c"}}, []string{"a -> c"}},
		"link to directory":              {[][]string{{"lib -> usr/lib", "usr/lib/"}, {"lib/x"}}, []string{"lib/", "lib/x", "usr/", "usr/lib/"}},
		"through a link of the layer":    {[][]string{{"lib -> usr/lib", "usr/lib/", "lib/x", "lib/y/"}}, []string{"lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/x", "usr/lib/y/"}},
		"through an absolute link":       {[][]string{{"lib -> /usr/lib", "lib/x"}}, []string{"lib -> /usr/lib", "usr/", "usr/lib/", "usr/lib/x"}},
		"through a link with ..":         {[][]string{{"usr/a -> ../../../b/../c", "usr/a/x"}}, []string{"c/", "c/x", "usr/", "usr/a -> ../../../b/../c"}},
		"through links of links":         {[][]string{{"a -> b", "b -> usr/lib/.", "a/x", "usr/c -> ../a", "usr/c/y"}}, []string{"a -> b", "b -> usr/lib/.", "usr/", "usr/c -> ../a", "usr/lib/", "usr/lib/x", "usr/lib/y"}},
		"through a link to below":        {[][]string{{"usr/lib/a"}, {"lib -> usr/lib", "lib/b", "lib/.wh.a"}}, []string{"lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/b"}},
		"through forty links":            {[][]string{append(chain(40), "a0/c")}, slices.Sorted(slices.Values(append(chain(40), "a40/c")))},
		"hard link through links":        {[][]string{{"lib -> usr/lib", "usr/lib/a", "lib/b => lib/a", "c => lib/b"}}, []string{"c", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/a => c", "usr/lib/b => c"}},
		"a directory, where a link was":  {[][]string{{"lib -> usr/lib", "lib/", "lib/x"}}, []string{"lib/", "lib/x"}},
		"a link that is itself replaced": {[][]string{{"a -> b", "c -> a", "a -> d", "c/x"}}, []string{"a -> d", "c -> a", "d/", "d/x"}},
		"names of AUFS":                  {[][]string{{".wh..wh.aufs", ".wh..wh.plnk/", ".wh..wh.plnk/1.2", "a"}}, []string{"a"}},
		"name like whiteout":             {[][]string{{"a.wh.b", ".whx"}}, []string{".whx", "a.wh.b"}},

		"hard link":                      {[][]string{{"a", "b => a"}}, []string{"a", "b => a"}},
		"hard link to a hard link":       {[][]string{{"a", "b => a", "c => b"}}, []string{"a", "b => a", "c => a"}},
		"hard link to a symbolic link":   {[][]string{{"a -> x", "b => a"}}, []string{"a -> x", "b -> x"}},
		"hard link to itself":            {[][]string{{"a", "a => a"}}, []string{"a"}},
		"hard link, absolute":            {[][]string{{"a", "b => /a", "c => ./a"}}, []string{"a", "b => a", "c => a"}},
		"hard link, then replaced":       {[][]string{{"a", "b => a", "a"}}, []string{"a", "b"}},
		"hard link replaces a directory": {[][]string{{"a", "b/", "b/c", "b => a"}}, []string{"a", "b => a"}},
		"hard link to below":             {[][]string{{"a"}, {"b => a"}}, []string{"a", "b => a"}},
		"hard link to below, twice":      {[][]string{{"a"}, {"b => a", "c => b", "d => a"}}, []string{"a", "b => a", "c => a", "d => a"}},
		"hard link to far below":         {[][]string{{"x/y/a"}, {"b"}, {"x/b => x/y/a"}}, []string{"b", "x/", "x/b", "x/y/", "x/y/a => x/b"}},
		"hard link, then whiteout":       {[][]string{{"a"}, {"b => a", ".wh.a"}}, []string{"b"}},
		"hard link, then below replaced": {[][]string{{"a"}, {"b => a", "a"}}, []string{"a", "b"}},
		"hard link to its own name":      {[][]string{{"a", "c => a"}, {"a => a"}}, []string{"a", "c => a"}},
		"upper name replaced":            {[][]string{{"a", "b => a"}, {"a"}}, []string{"a", "b"}},
		"link to below replaced again":   {[][]string{{"a"}, {"b => a", "b", "d/b => a", "d"}}, []string{"a", "b", "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []*Layer
			for _, entries := range test.layers {
				l := mustBuild(t, entries...)
				layers = append(layers, again(t, l))
			}
			root, err := Merge(layers)
			if err != nil {
				t.Fatal(err)
			}
			if have := names(root); !slices.Equal(have, test.want) {
				t.Errorf("have %q\nwant %q", have, test.want)
			}
		})
	}
}

// again sends a layer through its record and checks that nothing changed.
func again(t *testing.T, l *Layer) *Layer {
	t.Helper()
	var record bytes.Buffer
	if err := l.Encode(&record); err != nil {
		t.Fatal(err)
	}
	back, err := Decode(bytes.NewReader(record.Bytes()), Limits{})
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	for what, other := range map[string]*Layer{"decoded": back, "cloned": back.Clone()} {
		var second bytes.Buffer
		if err := other.Encode(&second); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(record.Bytes(), second.Bytes()) {
			t.Errorf("the record of the %s layer is another one", what)
		}
		if other.lowerLinks != l.lowerLinks {
			t.Errorf("%s: %d links below, want %d", what, other.lowerLinks, l.lowerLinks)
		}
		if entries, metadata := other.Cost(); entries > l.entries || metadata > l.metadata {
			t.Errorf("%s: costs %d, %d; the layer cost %d, %d", what, entries, metadata, l.entries, l.metadata)
		}
	}
	differ(t, "decoded", dump(back.root), dump(l.root))
	return back
}

func TestMergeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		layers [][]string
		want   string
	}{
		"link to nothing":          {[][]string{{"a"}, {"b => c"}}, "no such file"},
		"link to nothing, alone":   {[][]string{{"b => c"}}, "no such file"},
		"link to a directory":      {[][]string{{"a/"}, {"b => a"}}, "a directory"},
		"link through a symlink":   {[][]string{{"a -> c", "c/", "c/d"}, {"b => a/d"}}, "symbolic link"},
		"link through a file":      {[][]string{{"a"}, {"b => a/d"}}, "no such file"},
		"link to a whiteout below": {[][]string{{"a"}, {".wh.a"}, {"b => a"}}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []*Layer
			for _, entries := range test.layers {
				layers = append(layers, mustBuild(t, entries...))
			}
			_, err := Merge(layers)
			if !errors.Is(err, ErrLayer) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
}

func TestMergeMetadata(t *testing.T) {
	owned := func(uid int, entries ...string) *Layer {
		var headers []tar.Header
		for _, e := range entries {
			h := entry(e)
			h.Uid = uid
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.layer": fmt.Sprint(uid)}
			headers = append(headers, h)
		}
		l, err := Import(t.Context(), bytes.NewReader(imagetest.Tar(t, headers, nil)), Discard, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	root, err := Merge([]*Layer{
		owned(1, "./", "d/", "d/e/", "f", "g", "h => g", "s -> x"),
		owned(2, "d/", "d/e/new", "i/j/k"),
		owned(3, "f2 => f", "s2 => s"),
		owned(4, "d/e/.wh..wh..opq"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		uid   uint32
		mode  uint32
		xattr string
	}{
		".":   {1, unix.S_IFDIR | 0o755, "1"},
		"d":   {2, unix.S_IFDIR | 0o755, "2"}, // the topmost entry for it
		"d/e": {1, unix.S_IFDIR | 0o755, "1"}, // only implied above
		"i":   {0, unix.S_IFDIR | 0o755, ""},  // never an entry
		"i/j": {0, unix.S_IFDIR | 0o755, ""},
		"f":   {1, unix.S_IFREG | 0o644, "1"},
		"f2":  {1, unix.S_IFREG | 0o644, "1"}, // another name, no more
		"s2":  {1, unix.S_IFLNK | 0o777, "1"},
		"g":   {1, unix.S_IFREG | 0o644, "1"},
	} {
		n := root.Find(path)
		if n == nil {
			t.Errorf("%s is missing", path)
			continue
		}
		xattr, _ := n.Xattr("user.layer")
		if n.UID != want.uid || n.Mode != want.mode || xattr != want.xattr {
			t.Errorf("%s: %s", path, describeNode(n))
		}
	}
	if e := root.Find("d/e"); e.Len() != 0 {
		t.Errorf("d/e is opaque but has %d names", e.Len())
	}
	if i := root.Find("i"); i.Mtime != 0 {
		t.Errorf("mtime of an implicit directory is %d", i.Mtime)
	}
}
