package imagetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/chunked/compressor"
)

// Generator writes the entries of a layer: images too large for memory.
type Generator func(w *tar.Writer) error

// Bootable is what an image needs to be staged.
func Bootable(w *tar.Writer) error {
	for _, name := range []string{"vmlinuz", "initramfs.img"} {
		if err := writeFile(w, "usr/lib/modules/6.1.2/"+name, []byte(name+" for tests, which boots nothing; it is longer than what lies in an image")); err != nil {
			return err
		}
	}
	return nil
}

// ManyFiles writes n files of 100 bytes, 100 in a directory, named as in a root
// file system. Those for which changed returns true have another content.
func ManyFiles(n int, changed func(i int) bool) Generator {
	return func(w *tar.Writer) error {
		body := make([]byte, 100)
		for i := range n {
			copy(body, bytes.Repeat([]byte("x"), len(body)))
			binary.BigEndian.PutUint64(body, uint64(i))
			if changed != nil && changed(i) {
				body[99] = 'y'
			}
			if err := writeFile(w, fmt.Sprintf("usr/share/package-%04d/file-with-a-name-%d.txt", i/100, i), body); err != nil {
				return err
			}
		}
		return nil
	}
}

// LargeFiles writes files of the given sizes in bytes, whose content shrinks to
// about a third.
func LargeFiles(sizes ...int64) Generator {
	return func(w *tar.Writer) error {
		for i, size := range sizes {
			h := &tar.Header{Name: fmt.Sprintf("usr/lib/large-%d", i), Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Unix(1_700_000_000, 0)}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			random := rand.NewChaCha8([32]byte{byte(i)})
			block := make([]byte, 192<<10)
			for left := size; left > 0; {
				random.Read(block[:len(block)/3])
				n, err := w.Write(block[:min(left, int64(len(block)))])
				if err != nil {
					return err
				}
				left -= int64(n)
			}
		}
		return nil
	}
}

func writeFile(w *tar.Writer, name string, body []byte) error {
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1_700_000_000, 0)}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// Generate makes an image of one layer whose blob goes to a file in dir, never
// into memory as a whole. Compression is as in Layer.
func Generate(t testing.TB, dir, compression string, generators ...Generator) *Built {
	t.Helper()
	f, err := os.CreateTemp(dir, "blob-")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blobSum, streamSum := sha256.New(), sha256.New()
	annotations := make(map[string]string)
	z, err := compressTo(io.MultiWriter(f, blobSum), compression, annotations)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(io.MultiWriter(z, streamSum))
	for _, generate := range append([]Generator{Bootable}, generators...) {
		if err := generate(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		t.Fatal(err)
	}
	b := &Built{Blobs: make(map[digest.Digest][]byte), Large: map[digest.Digest]string{}}
	d := digest.NewDigest(digest.SHA256, blobSum)
	b.Large[d] = f.Name()
	b.Layers = []digest.Digest{d}
	b.DiffIDs = []digest.Digest{digest.NewDigest(digest.SHA256, streamSum)}
	b.describe(t, Image{}, []imgspecv1.Descriptor{{MediaType: mediaType(compression), Digest: d, Size: size, Annotations: annotations}})
	return b
}

func compressTo(w io.Writer, compression string, annotations map[string]string) (io.WriteCloser, error) {
	switch compression {
	case "gzip":
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	case "zstd:chunked":
		fastest := 1
		return compressor.ZstdCompressor(w, annotations, &fastest)
	}
	return nil, fmt.Errorf("compression %q", compression)
}

// LargeLayout writes an OCI layout with links to the large blobs.
func (b *Built) LargeLayout(t testing.TB, tag string) string {
	t.Helper()
	dir := b.Layout(t, tag)
	for d, name := range b.Large {
		if err := os.Symlink(name, filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
