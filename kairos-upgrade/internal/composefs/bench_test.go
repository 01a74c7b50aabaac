package composefs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// plausible grows a tree like that of a distribution: 20 files to a directory,
// one in eight small, one in twenty a symbolic link, one in forty a duplicate.
func plausible(tb testing.TB, files int) *tree.Inode {
	g := &grower{t: tb, r: rand.New(rand.NewPCG(uint64(files), 3)), root: tree.NewDir(0o755)}
	dirs := []*tree.Inode{g.root}
	d := g.digest()
	for i := range files {
		if i%20 == 0 {
			dirs = append(dirs, g.put(dirs[g.r.IntN(len(dirs))], g.word(8)+g.fresh(), tree.NewDir(0o755)))
		}
		n := tree.NewFile(0o644, 100+g.r.Int64N(1<<20), d)
		switch {
		case i%8 == 0:
			n = g.file(int64(g.r.IntN(65)))
		case i%20 == 1:
			n = tree.NewSymlink(g.word(30))
		case i%40 != 2:
			d = g.digest()
			n.Digest = d
		}
		n.Mtime = 1700000000 + int64(g.r.IntN(50))
		g.put(dirs[len(dirs)-1], g.word(10)+g.fresh(), n)
	}
	return g.root
}

var benchSizes = []int{10_000, 50_000, 200_000}

func BenchmarkWrite(b *testing.B) {
	for _, files := range benchSizes {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			root := plausible(b, files)
			var size counter
			b.ReportAllocs()
			for b.Loop() {
				size = 0
				if _, err := Write(&size, root); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(size))
			b.ReportMetric(float64(size), "image-bytes")
			b.ReportMetric(peer(b, root), "mkcomposefs-ns/op")
		})
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// peer is how long mkcomposefs takes for the same tree, less what reading its
// dump takes it: the time of a run that fails at the last line of the dump.
func peer(b *testing.B, root *tree.Inode) float64 {
	o, ok := lookOracle()
	if !ok {
		return 0
	}
	text := dump(b, root)
	took := func(text []byte) time.Duration {
		cmd := exec.Command(o[0], append(o[1:len(o):len(o)], "--print-digest-only", "--from-file", "-")...)
		cmd.Stdin = bytes.NewReader(text)
		start := time.Now()
		_ = cmd.Run() // one of the two is meant to fail
		return time.Since(start)
	}
	return float64(took(text) - took(append(text[:len(text):len(text)], "bad\n"...)))
}

func BenchmarkParse(b *testing.B) {
	for _, files := range benchSizes {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			image := written(b, plausible(b, files))
			b.SetBytes(int64(len(image)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(image); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDigest reads a directory whole, as `kairos-upgrade digest dir:` does.
func BenchmarkDigest(b *testing.B) {
	dir := b.TempDir()
	makeDirectory(b, dir)
	for b.Loop() {
		if _, err := Write(io.Discard, fromDir(b, dir)); err != nil {
			b.Fatal(err)
		}
	}
}
