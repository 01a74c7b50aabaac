package source

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	digest "github.com/opencontainers/go-digest"
)

// tiny is an image that a fuzzer gets through quickly.
func tiny(t testing.TB) *imagetest.Built {
	data := imagetest.Tar(t, []tar.Header{{Name: "a", Typeflag: tar.TypeReg}}, map[string]string{"a": "content"})
	return imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: data, Compression: "gzip"}, {Tar: data}}})
}

// readSome reads an image as far as it goes. What is read whole is what its
// digest says; a layer is read up to its first MiB, for a fuzzer finds bombs.
func readSome(t *testing.T, ref string, o Options) {
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		return
	}
	defer img.Close()
	for i, layer := range img.Layers {
		r, err := img.OpenLayer(t.Context(), i)
		if err != nil {
			return
		}
		verifier := layer.DiffID.Verifier()
		n, err := io.Copy(verifier, io.LimitReader(r, 1<<20))
		if err == nil && n < 1<<20 && !verifier.Verified() {
			t.Errorf("layer %d is not what its digest says, and no error tells", i)
		}
		r.Close()
	}
}

// FuzzArchive: whatever an archive holds, opening it and reading it returns,
// and leaves nothing behind.
func FuzzArchive(f *testing.F) {
	b := tiny(f)
	for _, archive := range []string{b.OCIArchive(f, "v", ""), b.OCIArchive(f, "", "gzip"), b.OCIArchive(f, "v", "zstd"), b.DockerArchive(f, "x:y")} {
		data, err := os.ReadFile(archive)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	o := accepting(f)
	name := filepath.Join(f.TempDir(), "image.tar")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		readSome(t, "oci-archive:"+name, o)
		readSome(t, "docker-archive:"+name, o)
		if left, err := os.ReadDir(o.TempDir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// FuzzManifest: a manifest, and the configuration that it names, are read
// whatever they say.
func FuzzManifest(f *testing.F) {
	b := tiny(f)
	f.Add(b.Blobs[b.Manifest])
	f.Add(b.Blobs[imagetest.Join(f, map[string]*imagetest.Built{"amd64": b}).Manifest])
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":-1},"layers":[{}]}`))
	o := accepting(f)
	dir := b.Layout(f, "")
	f.Fuzz(func(t *testing.T, data []byte) {
		changed := imagetest.Built{Blobs: map[digest.Digest][]byte{digest.FromBytes(data): data}, Manifest: digest.FromBytes(data)}
		for name, data := range changed.Files(t, "") {
			imagetest.Write(t, filepath.Join(dir, name), data)
		}
		readSome(t, "oci:"+dir, o)
		os.Remove(filepath.Join(dir, "blobs/sha256", changed.Manifest.Encoded()))
	})
}
