package tree

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

func put(t testing.TB, dir *Inode, name string, n *Inode) *Inode {
	t.Helper()
	if err := dir.Insert(name, n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDirectory does what a map does, in every order of insertion.
func TestDirectory(t *testing.T) {
	for _, order := range []string{"ascending", "descending", "random"} {
		t.Run(order, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			names := make([]string, 3000)
			for i := range names {
				names[i] = fmt.Sprintf("%04d", i)
			}
			switch order {
			case "descending":
				slices.Reverse(names)
			case "random":
				r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			}
			dir, model := NewDir(0o755), make(map[string]*Inode)
			for _, name := range names {
				n := NewInline(0o644, nil)
				put(t, dir, name, n)
				model[name] = n
				if victim := names[r.IntN(len(names))]; r.IntN(3) == 0 {
					_, had := model[victim]
					if dir.Remove(victim) != had {
						t.Fatalf("Remove(%s), there was one: %v", victim, had)
					}
					delete(model, victim)
				}
				if again := names[r.IntN(len(names))]; model[again] != nil {
					n := NewDir(0)
					put(t, dir, again, n)
					model[again] = n
				}
			}
			mustBe(t, dir, model)
			dir.Clear()
			mustBe(t, dir, nil)
		})
	}
}

func mustBe(t *testing.T, dir *Inode, model map[string]*Inode) {
	t.Helper()
	if dir.Len() != len(model) {
		t.Fatalf("%d names, want %d", dir.Len(), len(model))
	}
	for name, want := range model {
		if dir.Lookup(name) != want {
			t.Fatalf("Lookup(%s) finds another node", name)
		}
	}
	var names []string
	for name, n := range dir.Children() {
		if model[name] != n {
			t.Fatalf("%s is another node", name)
		}
		names = append(names, name)
	}
	if !slices.Equal(names, slices.Sorted(maps.Keys(model))) {
		t.Fatal("names out of order")
	}
}

// BenchmarkHugeDirectory inserts names in descending order. The time of each
// would grow with the directory if insertion were linear.
func BenchmarkHugeDirectory(b *testing.B) {
	for _, names := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			for b.Loop() {
				dir := NewDir(0o755)
				n := NewInline(0o644, nil)
				for i := range names {
					put(b, dir, fmt.Sprintf("%08d", names-i), n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*names), "ns/name")
		})
	}
}

func TestInsertRefuses(t *testing.T) {
	dir, file := NewDir(0o755), NewInline(0o644, nil)
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00", strings.Repeat("x", 256)} {
		if err := dir.Insert(name, file); !errors.Is(err, ErrName) {
			t.Errorf("Insert(%q): %v", name, err)
		}
	}
	for _, name := range []string{"...", ".a", "\xff", strings.Repeat("x", 255), "a\n"} {
		if err := dir.Insert(name, file); err != nil {
			t.Errorf("Insert(%q): %v", name, err)
		}
	}
	if err := file.Insert("x", dir); !errors.Is(err, ErrNotDir) {
		t.Errorf("insert into a file: %v", err)
	}
	if file.Lookup("x") != nil || file.Remove("x") || file.Len() != 0 {
		t.Error("a file has children")
	}
}

func TestFindAndWalk(t *testing.T) {
	root := NewDir(0o755)
	usr := put(t, root, "usr", NewDir(0o755))
	bin := put(t, usr, "bin", NewDir(0o755))
	sh := put(t, bin, "sh", NewInline(0o755, []byte("#!")))
	put(t, bin, "bash", sh)
	put(t, root, "bin", NewSymlink("usr/bin"))
	var paths []string
	for path := range root.Walk() {
		paths = append(paths, path)
	}
	if want := ". bin usr usr/bin usr/bin/bash usr/bin/sh"; strings.Join(paths, " ") != want {
		t.Errorf("walk %q, want %q", paths, want)
	}
	for path, want := range map[string]*Inode{
		"": root, ".": root, "/": root, "usr/bin/sh": sh, "/usr//bin/./bash": sh,
		"bin/sh": nil, "usr/../usr": nil, "usr/bin/sh/x": nil, "none": nil,
	} {
		if root.Find(path) != want {
			t.Errorf("Find(%q) finds another node", path)
		}
	}
	if links := root.Links(); len(links) != 1 || links[sh] != 2 {
		t.Errorf("links %v", links)
	}
	for path := range root.Walk() {
		if path == "usr/bin" {
			break // must not go on
		}
	}
}

func TestObjects(t *testing.T) {
	root := NewDir(0o755)
	a, b := fsverity.Bytes([]byte("a")), fsverity.Bytes([]byte("b"))
	file := put(t, root, "a", NewFile(0o644, 100, a))
	put(t, root, "again", file)
	dir := put(t, root, "d", NewDir(0o755))
	put(t, dir, "copy", NewFile(0o600, 100, a))
	put(t, dir, "b", NewFile(0o644, 70, b))
	put(t, dir, "small", NewInline(0o644, []byte("x")))
	want := map[fsverity.Digest]int64{a: 100, b: 70}
	got := make(map[fsverity.Digest]int64)
	for _, o := range root.Objects() {
		got[o.Digest] = o.Size
	}
	if !maps.Equal(got, want) || len(root.Objects()) != 2 {
		t.Errorf("objects %v", root.Objects())
	}
	if !slices.IsSortedFunc(root.Objects(), func(a, b Object) int { return slices.Compare(a.Digest[:], b.Digest[:]) }) {
		t.Error("out of order")
	}
}

func TestXattrs(t *testing.T) {
	n := NewDir(0)
	for _, name := range []string{"user.b", "security.capability", "user.a", "user.b"} {
		n.SetXattr(name, "old")
	}
	n.SetXattr("user.b", "new")
	if v, ok := n.Xattr("user.b"); !ok || v != "new" {
		t.Errorf("user.b is %q", v)
	}
	if _, ok := n.Xattr("user.c"); ok {
		t.Error("user.c is there")
	}
	if len(n.Xattrs) != 3 || n.Xattrs[0].Name != "security.capability" {
		t.Errorf("attributes %v", n.Xattrs)
	}
	n.RemoveXattrs(func(string) bool { return true })
	if n.Xattrs != nil {
		t.Error("attributes remain")
	}
}

func TestMkdev(t *testing.T) {
	for _, c := range [][2]uint32{{0, 0}, {1, 3}, {8, 255}, {8, 256}, {4095, 1<<20 - 1}} {
		want := uint32(unix.Mkdev(c[0], c[1]))
		if got := Mkdev(c[0], c[1]); got != want {
			t.Errorf("Mkdev(%d, %d) = %#x, libc says %#x", c[0], c[1], got, want)
		}
	}
}

// TestMemory holds the package's claim: an image of 200,000 files fits into a
// process of 128 MiB beside everything else.
func TestMemory(t *testing.T) {
	const files = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	root := NewDir(0o755)
	var dir *Inode
	for i := range files {
		if i%20 == 0 {
			dir = put(t, root, fmt.Sprintf("directory%d", i), NewDir(0o755))
		}
		put(t, dir, fmt.Sprintf("library-%d.so", i), NewFile(0o644, 100, fsverity.Digest{1}))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(root)
	size := after.HeapAlloc - before.HeapAlloc
	t.Logf("%d files: %d MiB, %d bytes each", files, size>>20, size/files)
	if size/files > 200 {
		t.Errorf("%d bytes for each file", size/files)
	}
}
