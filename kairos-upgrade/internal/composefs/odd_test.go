package composefs

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// Trees around every threshold of the format. Each is built from its name and
// a seed alone, so that golden digests stay valid.

type oddTree struct {
	name string
	make func(*grower)
}

// grower makes nodes with metadata drawn from a seeded source.
type grower struct {
	t    testing.TB
	r    *rand.Rand
	root *tree.Inode
	n    int
}

func grow(t testing.TB, o oddTree) *tree.Inode {
	t.Helper()
	var seed uint64 = 14695981039346656037
	for _, c := range []byte(o.name) {
		seed = (seed ^ uint64(c)) * 1099511628211
	}
	g := &grower{t: t, r: rand.New(rand.NewPCG(seed, 1)), root: tree.NewDir(0o755)}
	g.root.Mtime = 1700000000
	o.make(g)
	return g.root
}

func (g *grower) put(dir *tree.Inode, name string, n *tree.Inode) *tree.Inode {
	g.t.Helper()
	if err := dir.Insert(name, n); err != nil {
		g.t.Fatal(err)
	}
	return n
}

func (g *grower) digest() (d fsverity.Digest) {
	for i := range d {
		d[i] = byte(g.r.Uint32())
	}
	return d
}

func (g *grower) bytes(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return string(b)
}

// text returns n bytes without NUL and slash: a name, or a value.
func (g *grower) text(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + g.r.IntN(255))
		if b[i] == '/' {
			b[i] = '-'
		}
	}
	return string(b)
}

// word returns n letters.
func (g *grower) word(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(g.r.IntN(26))
	}
	return string(b)
}

// fresh returns a name not used before.
func (g *grower) fresh() string {
	g.n++
	return fmt.Sprintf("n%06d", g.n)
}

func (g *grower) file(size int64) *tree.Inode {
	if size <= tree.InlineMax {
		return tree.NewInline(0o644, []byte(g.bytes(int(size))))
	}
	return tree.NewFile(0o644, size, g.digest())
}

// odd gives a node unusual metadata.
func (g *grower) odd(n *tree.Inode) *tree.Inode {
	perms := []uint32{0, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o7777}
	n.Mode |= perms[g.r.IntN(len(perms))]
	ids := []uint32{0, 1, 1000, 65534, 65535, 65536, 1 << 31, 0xffffffff}
	n.UID, n.GID = ids[g.r.IntN(len(ids))], ids[g.r.IntN(len(ids))]
	times := []int64{1700000000, 1700000000, 0, 1, -1, -62135596800, 1 << 31, 1 << 34, 1<<63 - 1, -1 << 63}
	n.Mtime = times[g.r.IntN(len(times))]
	for range g.r.IntN(4) {
		g.xattr(n)
	}
	return n
}

func (g *grower) xattr(n *tree.Inode) {
	names := []string{
		"security.capability", "security.selinux", "user.note", "user.", "trusted.x", "system.other",
		"system.posix_acl_access", "system.posix_acl_default", "lustre.lov", "trusted.overlay.redirect",
		"trusted.overlay.opaque", "trusted.overlay.overlay.x", "user.overlay.metacopy", "strange",
		"security." + g.word(40), "user." + g.word(g.r.IntN(200)),
	}
	values := []string{"", "x", "shared", "system_u:object_r:usr_t:s0\x00", g.word(g.r.IntN(100)), g.bytes(g.r.IntN(60))}
	n.SetXattr(names[g.r.IntN(len(names))], values[g.r.IntN(len(values))])
}

// any returns a node of any type but directory and whiteout.
func (g *grower) any() *tree.Inode {
	switch g.r.IntN(8) {
	case 0:
		return tree.NewSymlink(g.text(1 + g.r.IntN(300)))
	case 1:
		return tree.NewSpecial(unix.S_IFCHR|0o600, tree.Mkdev(1+uint32(g.r.IntN(4095)), uint32(g.r.IntN(1<<20))))
	case 2:
		return tree.NewSpecial(unix.S_IFBLK|0o660, tree.Mkdev(uint32(g.r.IntN(4096)), uint32(g.r.IntN(1<<20))))
	case 3:
		return tree.NewSpecial(unix.S_IFIFO|0o644, 0)
	case 4:
		return tree.NewSpecial(unix.S_IFSOCK|0o755, 0)
	case 5:
		return g.file(int64(g.r.IntN(tree.InlineMax + 1)))
	case 6:
		return g.file(65 + g.r.Int64N(1<<uint(7+g.r.IntN(40))))
	}
	return g.file(65 + g.r.Int64N(1<<16))
}

// mixed grows a tree of about n nodes with everything in it.
func mixed(n int) func(*grower) {
	return func(g *grower) {
		dirs := []*tree.Inode{g.odd(g.root)}
		var files []*tree.Inode
		for range n {
			dir := dirs[g.r.IntN(len(dirs))]
			name := g.text(1+g.r.IntN(30)) + g.fresh()
			switch g.r.IntN(8) {
			case 0, 1:
				dirs = append(dirs, g.put(dir, name, g.odd(tree.NewDir(0))))
			case 2:
				if len(files) > 0 {
					g.put(dir, name, files[g.r.IntN(len(files))])
				}
			case 3:
				if len(files) > 0 { // the same content in another file
					if f := *files[g.r.IntN(len(files))]; f.IsRegular() {
						f.Xattrs = nil
						g.put(dir, name, g.odd(&f))
					}
				}
			default:
				files = append(files, g.put(dir, name, g.odd(g.any())))
			}
		}
	}
}

func oddTrees() []oddTree {
	list := []oddTree{
		{"empty", func(*grower) {}},
		{"one file", func(g *grower) { g.put(g.root, "f", g.file(1000)) }},
		{"sizes", sizes},
		{"chunk tables", chunkTables},
		{"symlink lengths", symlinkLengths},
		{"symlinks beside xattrs", symlinksBesideXattrs},
		{"name lengths", nameLengths},
		{"names before dot", namesBeforeDot},
		{"names of object directories", objectNames},
		{"not utf-8", func(g *grower) {
			for c := 1; c < 256; c++ {
				if c != '/' && c != '.' {
					g.put(g.root, string([]byte{byte(c)}), g.file(int64(c)))
				}
			}
		}},
		{"directory sizes", directorySizes},
		{"huge directory", func(g *grower) { fill(g, g.root, 5000, 20) }},
		{"huge directory of long names", func(g *grower) { fill(g, g.put(g.root, "d", tree.NewDir(0o755)), 3000, 240) }},
		{"many directories", func(g *grower) {
			for range 2000 {
				g.put(g.root, g.fresh(), tree.NewDir(0o755))
			}
		}},
		{"deep", func(g *grower) {
			for dir := range deepen(g, g.root, 300) {
				g.put(dir, "f", g.file(70))
			}
		}},
		{"hard links", hardLinks},
		{"hard link first in a deeper directory", func(g *grower) {
			f := g.file(100)
			g.put(g.root, "z", f)
			g.put(g.put(g.put(g.root, "a", tree.NewDir(0o755)), "b", tree.NewDir(0o700)), "f", f)
			g.put(g.put(g.root, "b", tree.NewDir(0o755)), "f", f)
		}},
		{"hard links of every type", func(g *grower) {
			for range 60 {
				n := g.odd(g.any())
				g.put(g.root, g.fresh(), n)
				g.put(g.root, g.fresh(), n)
			}
		}},
		{"more links than 16 bits count", func(g *grower) {
			f := g.file(100)
			for range 1<<16 + 1 {
				g.put(g.root, g.fresh(), f)
			}
		}},
		{"devices", devices},
		{"whiteouts", whiteouts},
		{"whiteout in the root", func(g *grower) { g.put(g.root, "w", tree.NewSpecial(unix.S_IFCHR|0o600, 0)) }},
		{"hard-linked whiteout", func(g *grower) {
			w := tree.NewSpecial(unix.S_IFCHR, 0)
			g.put(g.put(g.root, "a", tree.NewDir(0o755)), "w", w)
			g.put(g.put(g.root, "b", tree.NewDir(0o755)), "w", w)
		}},
		{"owners", func(g *grower) {
			for _, id := range []uint32{0, 65535, 65536, 0xffffffff} {
				for _, gid := range []uint32{0, 65535, 65536, 0xffffffff} {
					f := g.put(g.root, g.fresh(), g.file(0))
					f.UID, f.GID = id, gid
				}
			}
		}},
		{"old root", func(g *grower) { g.root.Mtime = -5; fill(g, g.root, 50, 5) }},
		{"young root", func(g *grower) { g.root.Mtime = 1 << 40; fill(g, g.root, 50, 5) }},
		{"one mtime", func(g *grower) {
			fill(g, g.root, 300, 12)
			for _, n := range g.root.Children() {
				n.Mtime = g.root.Mtime
			}
		}},
		{"selinux", func(g *grower) {
			g.root.SetXattr("security.selinux", "system_u:object_r:root_t:s0\x00")
			for i := range 300 {
				f := g.put(g.root, g.fresh(), g.file(int64(i)))
				f.SetXattr("security.selinux", fmt.Sprintf("system_u:object_r:t%d_t:s0\x00", i%7))
			}
		}},
		{"capabilities", func(g *grower) {
			for i := range 40 {
				f := g.put(g.root, g.fresh(), g.file(1000))
				f.SetXattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00"+strings.Repeat("\x00", i%3*4))
			}
		}},
		{"acls", func(g *grower) {
			g.put(g.root, "a", g.file(10)).SetXattr("system.posix_acl_access", "\x02\x00\x00\x00")
			g.put(g.root, "d", tree.NewDir(0o755)).SetXattr("system.posix_acl_default", "\x02\x00\x00\x00")
		}},
		{"xattr prefixes", func(g *grower) {
			for range 300 {
				g.xattr(g.put(g.root, g.fresh(), g.file(100)))
			}
		}},
		{"xattr sizes", xattrSizes},
		{"more shared xattrs than an inode can hold", manyShared},
		{"overlay xattrs", overlayXattrs},
		{"same content often", func(g *grower) {
			d := g.digest()
			for i := range 200 {
				g.put(g.root, g.fresh(), tree.NewFile(0o644, 100+int64(i%2), d))
			}
		}},
		{"tails at block ends", tailsAtBlockEnds},
	}
	for i := range 40 {
		list = append(list, oddTree{fmt.Sprintf("mixed %d", i), mixed(10 + 37*i)})
	}
	return list
}

func sizes(g *grower) {
	for _, size := range []int64{
		0, 1, 2, 63, 64, 65, 66, 127, 128, 129, 255, 256, 257, 4095, 4096, 4097, 8191, 8192, 8193,
		65535, 65536, 65537, 128<<10 - 1, 128 << 10, 128<<10 + 1, 1<<31 - 1, 1 << 31, 1<<31 + 1,
		1<<32 - 1, 1 << 32, 1<<32 + 1, 5 << 32, 1 << 40,
	} {
		for _, mtime := range []int64{g.root.Mtime, g.root.Mtime + 1} {
			g.put(g.root, g.fresh(), g.file(size)).Mtime = mtime
		}
	}
}

// chunkTables has files so large (8 TiB and more) that they take several chunks.
func chunkTables(g *grower) {
	for _, size := range []int64{1<<43 - 1, 1 << 43, 1<<43 + 1, 2 << 43, 2<<43 + 1, 100 << 43, 1000 << 43, 1000<<43 + 1, 1015 << 43, 1016 << 43} {
		for range 5 {
			g.put(g.root, g.fresh(), g.file(size))
			g.put(g.root, g.fresh(), g.file(int64(g.r.IntN(60))))
		}
	}
}

func symlinkLengths(g *grower) {
	for _, n := range []int{1, 2, 3, 31, 32, 33, 63, 64, 65, 100, 1000, 2000, 2047, 2048, 2049, 3000, 3900, 4000,
		4020, 4031, 4032, 4033, 4034, 4063, 4064, 4065, 4090, 4094, 4095} {
		for range 3 {
			g.put(g.root, g.fresh(), tree.NewSymlink(g.word(n)))
			g.put(g.root, g.fresh(), tree.NewSymlink(g.word(n))).Mtime = 1
		}
	}
}

func symlinksBesideXattrs(g *grower) {
	for i := range 300 {
		l := g.put(g.root, g.fresh(), tree.NewSymlink(g.word(1+g.r.IntN(4095))))
		l.SetXattr("security.selinux", g.word(g.r.IntN(300)))
		if i%3 == 0 {
			l.SetXattr("user.x", g.word(g.r.IntN(5000)))
		}
	}
}

func nameLengths(g *grower) {
	for n := 1; n <= tree.NameMax; n++ {
		g.put(g.root, g.word(n), g.file(int64(n)))
	}
}

func namesBeforeDot(g *grower) {
	dir := g.put(g.root, "d", tree.NewDir(0o755))
	for _, name := range []string{"!", "-", "-x", "+", " ", ".a", "..a", "...", ".-", ". ", "\x01", ".\x01", "..\x01", "z"} {
		g.put(g.root, name, g.file(100))
		g.put(dir, name, tree.NewDir(0o755))
	}
}

func objectNames(g *grower) {
	for _, name := range []string{"00", "0a", "0A", "7f", "ff", "FF", "100", "0", "f", "fg"} {
		g.put(g.root, name, g.file(10))
	}
	g.put(g.put(g.root, "aa", tree.NewDir(0o755)), "bb", g.file(10))
	g.put(g.root, "ab", tree.NewSymlink("aa"))
}

// directorySizes has directories around half a block, a block, two, and three.
func directorySizes(g *grower) {
	const dots = direntSize*2 + 3
	for _, size := range []int{blockSize / 2, blockSize, blockSize + blockSize/2, 2 * blockSize, 3 * blockSize} {
		for delta := -14; delta <= 14; delta++ {
			dir := g.put(g.root, g.fresh(), tree.NewDir(0o755))
			left := size + delta - dots
			for left > direntSize+255 {
				name := g.fresh() + g.word(50+g.r.IntN(50))
				g.put(dir, name, g.file(0))
				left -= direntSize + len(name)
			}
			g.put(dir, g.word(max(1, min(255, left-direntSize))), g.file(0))
		}
	}
}

func fill(g *grower, dir *tree.Inode, n, nameLen int) {
	for range n {
		g.put(dir, g.fresh()+g.word(g.r.IntN(nameLen)), g.file(int64(g.r.IntN(5000)))).Mtime += 1700000000 + int64(g.r.IntN(3))
	}
}

func deepen(g *grower, dir *tree.Inode, depth int) func(func(*tree.Inode) bool) {
	return func(yield func(*tree.Inode) bool) {
		for range depth {
			dir = g.put(dir, g.word(1+g.r.IntN(20)), tree.NewDir(0o755))
			if !yield(dir) {
				return
			}
		}
	}
}

func hardLinks(g *grower) {
	var files []*tree.Inode
	for i := range 30 {
		files = append(files, g.file(int64(i*10)))
	}
	dirs := []*tree.Inode{g.root}
	for range 20 {
		dirs = append(dirs, g.put(dirs[g.r.IntN(len(dirs))], g.word(3)+g.fresh(), tree.NewDir(0o755)))
	}
	for range 400 {
		g.put(dirs[g.r.IntN(len(dirs))], g.word(2)+g.fresh(), files[g.r.IntN(len(files))])
	}
}

func devices(g *grower) {
	for _, major := range []uint32{0, 1, 8, 255, 256, 4095} {
		for _, minor := range []uint32{0, 1, 255, 256, 1<<20 - 1} {
			g.put(g.root, g.fresh(), tree.NewSpecial(unix.S_IFBLK|0o660, tree.Mkdev(major, minor)))
			if major != 0 || minor != 0 {
				g.put(g.root, g.fresh(), tree.NewSpecial(unix.S_IFCHR|0o660, tree.Mkdev(major, minor)))
			}
		}
	}
	g.put(g.root, "fifo", tree.NewSpecial(unix.S_IFIFO|0o644, 0))
	g.put(g.root, "socket", tree.NewSpecial(unix.S_IFSOCK|0o777, 0))
}

func whiteouts(g *grower) {
	for i := range 10 {
		dir := g.put(g.root, g.fresh(), tree.NewDir(0o755))
		if i%2 == 0 {
			dir = g.put(dir, g.fresh(), tree.NewDir(0o700))
		}
		for range i {
			w := g.put(dir, g.fresh(), tree.NewSpecial(unix.S_IFCHR|uint32(g.r.IntN(512)), 0))
			w.UID = uint32(g.r.IntN(3))
		}
		g.put(dir, g.fresh(), g.file(int64(i*20)))
	}
}

func xattrSizes(g *grower) {
	for n := 0; n < 70; n++ {
		g.put(g.root, g.fresh(), g.file(100)).SetXattr("user.a", g.word(n))
		g.put(g.root, g.fresh(), g.file(int64(n%65))).SetXattr("user."+g.word(n), g.word(n))
	}
	for _, n := range []int{250, 1000, 4000, 4075, 4076, 4077, 4096, 9000, 32700} {
		g.put(g.root, g.fresh(), g.file(60)).SetXattr("user.large", g.word(n))
		g.put(g.root, g.fresh(), tree.NewDir(0o755)).SetXattr("trusted.large", g.word(n))
	}
	long := g.put(g.root, g.fresh(), g.file(60))
	long.SetXattr("user."+g.word(250), "v")
	long.SetXattr(g.word(255), "v")
	long.SetXattr("trusted.overlay."+g.word(255-16), "v")
	for range 3 {
		n := g.put(g.root, g.fresh(), g.file(60))
		for i := range 100 {
			n.SetXattr(fmt.Sprintf("user.%d", i), g.word(g.r.IntN(200)))
		}
	}
}

func manyShared(g *grower) {
	for range 3 {
		n := g.put(g.root, g.fresh(), g.file(100))
		for i := range 200 {
			n.SetXattr(fmt.Sprintf("user.%03d", i), "same")
		}
		n.SetXattr("security.own", g.word(10))
	}
}

func overlayXattrs(g *grower) {
	for _, x := range []string{"metacopy", "redirect", "opaque", "whiteout", "overlay.whiteouts", "origin", ""} {
		g.put(g.root, g.fresh(), g.file(100)).SetXattr(overlayPrefix+x, "y")
		g.put(g.root, g.fresh(), g.file(10)).SetXattr("user.overlay."+x, "y")
		g.put(g.root, g.fresh(), tree.NewDir(0o755)).SetXattr(overlayPrefix+x, "y")
	}
	g.root.SetXattr("trusted.overlay.opaque", "x")
}

// tailsAtBlockEnds moves tails of every kind over block boundaries byte by byte.
func tailsAtBlockEnds(g *grower) {
	for i := range 400 {
		g.put(g.root, g.fresh(), g.file(int64(i%65)))
		g.put(g.root, g.fresh(), tree.NewSymlink(g.word(1+i%90)))
		d := g.put(g.root, g.fresh(), tree.NewDir(0o755))
		g.put(d, g.word(1+i%255), g.file(70))
		if i%5 == 0 {
			d.SetXattr("user.pad", g.word(i))
		}
	}
}
