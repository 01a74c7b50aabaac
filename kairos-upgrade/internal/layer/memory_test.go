package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// watched reports how much the heap holds while it is read.
type watched struct {
	r    io.Reader
	next int
	peak uint64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.next -= n; w.next <= 0 {
		w.next = 32 << 20
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		w.peak = max(w.peak, stats.HeapInuse)
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestImportLargeFile: memory does not grow with the size of a file.
func TestImportLargeFile(t *testing.T) {
	const size = 1 << 30
	if testing.Short() {
		t.Skip("reads 1 GiB")
	}
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "large", Typeflag: tar.TypeReg, Size: size}); err != nil {
		t.Fatal(err)
	}
	stream := &watched{r: io.MultiReader(&head, io.LimitReader(zeros{}, size), bytes.NewReader(make([]byte, 1024)))}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	l, err := Import(t.Context(), stream, Discard, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if n := l.root.Lookup("large"); n.Size != size {
		t.Errorf("%s", describeNode(n))
	}
	if grown := int64(stream.peak) - int64(before.HeapInuse); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// manyFiles is a tar stream with n files of 100 bytes, 100 in each directory,
// named as in a root file system.
func manyFiles(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		body := bytes.Repeat([]byte("x"), 100)
		var err error
		for i := 0; i < n && err == nil; i++ {
			dir := fmt.Sprintf("usr/share/package-%04d/", i/100)
			if i%100 == 0 {
				err = tw.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(1_700_000_000, 0)})
			}
			if err == nil {
				err = tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("%sfile-with-a-name-%d.txt", dir, i), Typeflag: tar.TypeReg,
					Mode: 0o644, Size: 100, ModTime: time.Unix(1_700_000_000, 0)})
			}
			if err == nil {
				copy(body, fmt.Sprint(i))
				_, err = tw.Write(body)
			}
		}
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

// liveHeap returns the bytes that are reachable.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestMemoryOfManyFiles: a merged tree is all that is left of
// its layers, and small.
func TestMemoryOfManyFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("imports 50,000 files")
	}
	const files = 50_000
	before := liveHeap()
	l, err := Import(t.Context(), manyFiles(files), Discard, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	perLayer := float64(liveHeap()-before) / files
	var record bytes.Buffer
	if err := l.Encode(&record); err != nil {
		t.Fatal(err)
	}
	root, err := Merge([]*Layer{l})
	if err != nil {
		t.Fatal(err)
	}
	l = nil
	perTree := float64(liveHeap()-before-uint64(record.Cap())) / files
	t.Logf("bytes per file: layer %.0f, merged tree %.0f, record %.0f", perLayer, perTree, float64(record.Len())/files)
	if perLayer > 260 || perTree > 260 {
		t.Errorf("bytes per file: layer %.0f, merged tree %.0f; want at most 260", perLayer, perTree)
	}
	if n := count(root); n != files+files/100+3 {
		t.Errorf("%d names", n)
	}
}

func count(root *tree.Inode) (n int) {
	for range root.Walk() {
		n++
	}
	return n
}

func BenchmarkImport(b *testing.B) {
	for _, files := range []int{10_000, 50_000, 200_000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Import(b.Context(), manyFiles(files), Discard, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(files), "ns/file")
		})
	}
}

func BenchmarkDecodeAndMerge(b *testing.B) {
	for _, files := range []int{10_000, 50_000, 200_000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			l, err := Import(b.Context(), manyFiles(files), Discard, Limits{})
			if err != nil {
				b.Fatal(err)
			}
			record := encoded(b, l)
			b.ReportAllocs()
			for b.Loop() {
				l, err := Decode(bytes.NewReader(record), Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := Merge([]*Layer{l}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(files), "ns/file")
			b.ReportMetric(float64(len(record)), "record-bytes")
		})
	}
}
