package composefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

func written(t testing.TB, root *tree.Inode) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(&b, root); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mustRoundTrip reads an image, and holds the tree against the one it was
// written from, and the image that it makes again against the first.
func mustRoundTrip(t testing.TB, root *tree.Inode) {
	t.Helper()
	first := written(t, root)
	again, err := Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := dump(t, root), dump(t, again); !bytes.Equal(a, b) {
		la, lb := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
		for i := range min(len(la), len(lb)) {
			if la[i] != lb[i] {
				t.Fatalf("line %d of the dump\nwritten %s\n   read %s", i, la[i], lb[i])
			}
		}
		t.Fatalf("%d names written, %d read", len(la), len(lb))
	}
	if second := written(t, again); !bytes.Equal(first, second) {
		t.Fatal(firstDifference(again, second, first))
	}
}

func TestRoundTrip(t *testing.T) {
	for _, odd := range oddTrees() {
		t.Run(odd.name, func(t *testing.T) { mustRoundTrip(t, grow(t, odd)) })
	}
}

func TestRead(t *testing.T) {
	f, err := os.Open(goldenImage("one file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if n := root.Find("f"); n == nil || n.Size != 1000 {
		t.Fatalf("file %+v", n)
	}
	f.Close()
	if _, err := Read(f); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: error %v", err)
	}
	large, err := os.Create(filepath.Join(t.TempDir(), "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	if err := large.Truncate(MaxSize + 1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(large); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too large: error %v", err)
	}
}

// TestReadThroughWindows reads an image that is larger than all windows
// together, and one that ends before its size.
func TestReadThroughWindows(t *testing.T) {
	root := tree.NewDir(0o755)
	for i := range 20_000 {
		file := tree.NewFile(0o644, 1000, fsverity.Bytes(fmt.Append(nil, i)))
		if err := root.Insert(fmt.Sprintf("a-file-with-a-name-%05d", i), file); err != nil {
			t.Fatal(err)
		}
	}
	image := written(t, root)
	if len(image) <= windowCount*windowSize {
		t.Fatalf("%d bytes fit into the windows", len(image))
	}
	have, err := Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written(t, have), image) {
		t.Error("what was read is not what was written")
	}
	size := int64(len(image))
	cut := io.NewSectionReader(bytes.NewReader(image), 0, size/2)
	if _, err := parse(cut, size); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: error %v", err)
	}
}

// TestDamaged changes bytes of small images, one after the other, every one
// among the first inodes and samples of the rest: each must be refused or give
// a tree that can be written, and never a panic.
func TestDamaged(t *testing.T) {
	for _, name := range []string{"capabilities", "hard-linked whiteout"} {
		good, err := os.ReadFile(goldenImage(name))
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for at := 0; at < len(good); at += 1 + at/100 {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			root, err := Parse(bad)
			if err != nil {
				if !errors.Is(err, ErrImage) {
					t.Fatalf("%s: byte %d: %v", name, at, err)
				}
				refused++
				continue
			}
			if err := WriteDump(new(bytes.Buffer), root); err != nil {
				t.Fatalf("%s: byte %d: %v", name, at, err)
			}
		}
		t.Logf("%s: %d damaged images refused", name, refused)
		for n := 0; n < len(good); n += 1 + n/100 {
			if _, err := Parse(good[:n]); err == nil && n < len(good)-blockSize {
				t.Fatalf("%s: accepted when cut to %d of %d bytes", name, n, len(good))
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	big := func(n *tree.Inode) []byte {
		root := tree.NewDir(0o755)
		root.Insert("x", n)
		return written(t, root)
	}
	whiteout := big(tree.NewSpecial(unix.S_IFCHR|0o644, tree.Mkdev(1, 3)))
	for _, c := range []struct {
		name   string
		image  []byte
		change func(image []byte, inode int)
		want   string
	}{
		{"plain whiteout", whiteout, func(b []byte, at int) { clear(b[at+16 : at+20]) }, "not escaped"},
		{"type", whiteout, func(b []byte, at int) { b[at+5] = 0x80 }, "entry of type"},
		{"no type", whiteout, func(b []byte, at int) { b[at+5] = 0 }, "no file type"},
		{"foreign layout", whiteout, func(b []byte, at int) { b[at] = 1 << 1 }, "content"},
		{"unknown format", whiteout, func(b []byte, at int) { b[at] = 0xf0 }, "unknown format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := bytes.Clone(c.image)
			c.change(bad, inodeOf(t, bad, "x"))
			_, err := Parse(bad)
			if !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if !strings.Contains(err.Error(), "/x: ") {
				t.Errorf("error %v does not name the file", err)
			}
		})
	}
}

// TestOverlap has hundreds of files refer to attributes that begin within the
// value of another one, each larger than all the rest of the image.
func TestOverlap(t *testing.T) {
	const files, size = 500, 32000
	root := tree.NewDir(0o755)
	entry := "\x01\x01" + string(binary.LittleEndian.AppendUint16(nil, size/2)) // user.\x01, 16000 bytes
	for i := range files {
		n := tree.NewInline(0o644, nil)
		n.SetXattr("user.a", "shared by all")
		if i < 2 {
			n = tree.NewInline(0o644, nil)
			n.SetXattr("user.bigg", strings.Repeat(entry, size/4))
		}
		root.Insert(fmt.Sprintf("%04d", i), n)
	}
	bad := written(t, root)
	p, err := plan(root)
	if err != nil {
		t.Fatal(err)
	}
	offsets := p.shared.offsets
	big := offsets[tree.Xattr{Name: "user.bigg", Value: strings.Repeat(entry, size/4)}]
	for i := range p.inodes {
		n := &p.inodes[i]
		if _, ok := n.node.Xattr("user.a"); ok {
			number := (uint32(p.inodesEnd%blockSize) + big + 8 + 4*uint32(i)) / 4
			binary.LittleEndian.PutUint32(bad[int(n.nid)*slotSize+int(n.size())+xattrHeaderSize:], number)
		}
	}
	if _, err := Parse(bad); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "overlap") {
		t.Fatalf("error %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	long := tree.NewDir(0o755)
	for range 40 {
		long.SetXattr("user."+strings.Repeat("n", len(long.Xattrs)+1), strings.Repeat("v", 1000))
	}
	twice := tree.NewDir(0o755)
	twice.Insert("again", tree.NewDir(0o755))
	twice.Insert("other", twice.Lookup("again"))
	loop := tree.NewDir(0o755)
	loop.Insert("loop", loop)
	deep := tree.NewDir(0o755)
	for at, i := deep, 0; i < maxDepth+2; i++ {
		next := tree.NewDir(0o755)
		at.Insert("d", next)
		at = next
	}
	disorder := tree.NewInline(0o644, nil)
	disorder.Xattrs = []tree.Xattr{{Name: "user.b"}, {Name: "user.a"}}
	for _, c := range []struct {
		name string
		node *tree.Inode
		want string
	}{
		{"no type", &tree.Inode{Mode: 0o644}, "no file type"},
		{"content missing", &tree.Inode{Mode: unix.S_IFREG, Size: 5}, "a file of 5 bytes with a content of 0"},
		{"content left", &tree.Inode{Mode: unix.S_IFREG, Content: "x"}, "a file of 0 bytes with a content of 1"},
		{"digest missing", &tree.Inode{Mode: unix.S_IFREG, Size: 65}, "without a digest"},
		{"negative", &tree.Inode{Mode: unix.S_IFREG, Size: -1}, "size -1"},
		{"too large", tree.NewFile(0, maxFileSize+1, [32]byte{1}), "more than"},
		{"no target", tree.NewSymlink(""), "target"},
		{"long target", tree.NewSymlink(strings.Repeat("x", 4096)), "not 4096"},
		{"target with NUL", tree.NewSymlink("a\x00b"), "NUL"},
		{"attributes too large", long, "extended attributes of"},
		{"attributes out of order", disorder, "out of order"},
		{"directory twice", twice, "two names"},
		{"loop", loop, "two names"},
		{"deep", deep, "deeper than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree.NewDir(0o755)
			if err := root.Insert("x", c.node); err != nil {
				t.Fatal(err)
			}
			_, err := Write(io.Discard, root)
			if !errors.Is(err, ErrTree) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), ": /x") {
				t.Errorf("error %v, want %q about /x", err, c.want)
			}
		})
	}
	if _, err := Write(io.Discard, tree.NewSymlink("x")); !errors.Is(err, ErrTree) {
		t.Errorf("error %v", err)
	}
}

func TestWriteReportsWriter(t *testing.T) {
	full := errors.New("no space left")
	if _, err := Write(failing{full}, tree.NewDir(0o755)); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestParseRefusesStructure breaks what holds directories together.
func TestParseRefusesStructure(t *testing.T) {
	root := tree.NewDir(0o755)
	for _, name := range []string{"first", "other"} {
		root.Insert(name, tree.NewDir(0o755))
	}
	good := written(t, root)
	first, other := inodeOf(t, good, "first")/slotSize, inodeOf(t, good, "other")/slotSize
	record := func(nid int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(nid)) }
	// The blocks of the root come last: what it says of "other" is behind what
	// "other" says of itself.
	replace := func(old, new []byte) []byte {
		at := bytes.LastIndex(good, old)
		if at < 0 {
			t.Fatalf("no %q in the image", old)
		}
		bad := bytes.Clone(good)
		copy(bad[at:], new)
		return bad
	}
	for _, c := range []struct {
		name string
		bad  []byte
		want string
	}{
		{"directory twice", replace(record(other), record(first)), "two names"},
		{"order", replace([]byte("firstother"), []byte("otherfirst")), "out of order"},
		{"same name", replace([]byte("firstother"), []byte("firstfirst")), "out of order"},
		{"slash", replace([]byte("firstother"), []byte("first/ther")), "out of order"},
		{"bad name", replace([]byte("firstother"), []byte("firsto/her")), "not a file name"},
		{"deep", deepImage(t), "nested deeper"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(c.bad); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// deepImage returns an image that Write refuses to write.
func deepImage(t *testing.T) []byte {
	root := tree.NewDir(0o755)
	for at, i := root, 0; i <= maxDepth; i++ {
		next := tree.NewDir(0o755)
		at.Insert("d", next)
		at = next
	}
	p := new(image)
	if err := p.descend(root, make(map[*tree.Inode]struct{}), -2); err != nil {
		t.Fatal(err)
	}
	p.order(root)
	p.share()
	p.layOut()
	var b bytes.Buffer
	out := newOutput(&b)
	p.emit(out)
	if _, err := out.finish(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// inodeOf returns the offset of the inode of a file in the root directory.
func inodeOf(t *testing.T, image []byte, name string) int {
	t.Helper()
	root, err := Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan(root)
	if err != nil {
		t.Fatal(err)
	}
	for e := range p.entries(0) {
		if e.name == name {
			return int(e.inode.nid) * slotSize
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// FuzzParse changes bytes of good images: each patch is an image's number, an
// offset of 16 bits and what to write there, so that the fuzzer need not find
// its way through blocks of zeros.
func FuzzParse(f *testing.F) {
	var images [][]byte
	for _, name := range goldenImages {
		image, err := os.ReadFile(goldenImage(name))
		if err != nil {
			f.Fatal(err)
		}
		images = append(images, image)
	}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{0x80, 4, 0xff})          // format of the root
	f.Add(uint8(2), []byte{0x88, 4, 0xff})          // its size
	f.Add(uint8(3), []byte{0x90, 4, 0, 0x82, 4, 9}) // its block, its attributes
	f.Add(uint8(4), []byte{0x2c, 4, 0xff})          // block of shared attributes
	f.Fuzz(func(t *testing.T, base uint8, patches []byte) {
		image := bytes.Clone(images[int(base)%len(images)])
		for ; len(patches) >= 3; patches = patches[3:] {
			image[(int(patches[0])|int(patches[1])<<8)%len(image)] = patches[2]
		}
		mustBeSafe(t, image)
	})
}

// FuzzParseRaw gives the parser any bytes at all.
func FuzzParseRaw(f *testing.F) {
	good, err := os.ReadFile(goldenImage("one file"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:inodeStart+256])
	f.Fuzz(mustBeSafe)
}

func mustBeSafe(t *testing.T, image []byte) {
	root, err := Parse(image)
	if err != nil {
		if !errors.Is(err, ErrImage) {
			t.Fatalf("error %v", err)
		}
		return
	}
	names := 0
	for range root.Walk() {
		names++
	}
	if names > len(image)/direntSize {
		t.Fatalf("%d names out of %d bytes", names, len(image))
	}
	if _, err := Write(io.Discard, root); err != nil && !errors.Is(err, ErrTree) {
		t.Fatal(err)
	}
}

func FuzzRoundTrip(f *testing.F) {
	for i := range 8 {
		f.Add(uint64(i), uint16(20*i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, size uint16) {
		g := &grower{t: t, r: rand.New(rand.NewPCG(seed, 2)), root: tree.NewDir(0o755)}
		mixed(int(size % 2000))(g)
		mustRoundTrip(t, g.root)
	})
}
