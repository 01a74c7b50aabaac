// Package imagetest makes container images for tests: layers from lists of tar
// entries, OCI layouts, archives, and a registry that can misbehave.
package imagetest

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/chunked/compressor"
)

// Tar returns an archive with the entries; bodies has the contents of regular
// files by name.
func Tar(t testing.TB, entries []tar.Header, bodies map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		body := bodies[h.Name]
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("tar entry %q: %v", h.Name, err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(body)); err != nil {
				t.Fatalf("tar entry %q: %v", h.Name, err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Layer is a layer of an Image.
type Layer struct {
	Tar []byte
	// Compression is "", "gzip", "zstd" or "zstd:chunked".
	Compression string
	// DiffID replaces the right one.
	DiffID digest.Digest
	// MediaType replaces the right one.
	MediaType string
	// URLs say where else it is.
	URLs []string
	// Table, if not nil, changes an entry of the table of contents of a
	// zstd:chunked layer.
	Table func(entry map[string]any)
	// Annotations, if not nil, changes those of the layer.
	Annotations func(map[string]string) map[string]string
}

// Image is what an image is made of.
type Image struct {
	Layers       []Layer
	Architecture string // "" for this machine's
	Labels       map[string]string
}

// Compress returns the blob of a layer.
func Compress(t testing.TB, data []byte, compression string) []byte {
	t.Helper()
	var buf bytes.Buffer
	switch compression {
	case "":
		return data
	case "gzip":
		w := gzip.NewWriter(&buf)
		w.Write(data)
		w.Close()
	case "zstd":
		w, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		w.Close()
	default:
		t.Fatalf("compression %q", compression)
	}
	return buf.Bytes()
}

// Chunked returns the zstd:chunked blob of a layer and the annotations that
// describe its table of contents, as podman and skopeo make them.
func Chunked(t testing.TB, data []byte) ([]byte, map[string]string) {
	t.Helper()
	var buf bytes.Buffer
	annotations := make(map[string]string)
	level := 3 // the default would be 10, which takes long
	w, err := compressor.ZstdCompressor(&buf, annotations, &level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), annotations
}

// Annotations of a zstd:chunked layer.
const (
	TableDigest   = "io.github.containers.zstd-chunked.manifest-checksum"
	TablePosition = "io.github.containers.zstd-chunked.manifest-position"
	SplitPosition = "io.github.containers.zstd-chunked.tarsplit-position"
)

// retable gives a zstd:chunked blob another table of contents.
func retable(t testing.TB, blob []byte, annotations map[string]string, edit func(map[string]any)) ([]byte, map[string]string) {
	t.Helper()
	var at, length, plain, splitAt, splitLength, splitPlain int64
	_, err := fmt.Sscanf(annotations[TablePosition]+" "+annotations[SplitPosition], "%d:%d:%d:1 %d:%d:%d",
		&at, &length, &plain, &splitAt, &splitLength, &splitPlain)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	table, err := z.DecodeAll(blob[at:at+length], nil)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	decoder := json.NewDecoder(bytes.NewReader(table))
	decoder.UseNumber()
	if err := decoder.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	for _, e := range doc["entries"].([]any) {
		edit(e.(map[string]any))
	}
	if table, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	packed := Compress(t, table, "zstd")
	split := blob[splitAt : splitAt+splitLength]
	const magic, header = 0x184D2A50, 8 // of a frame that decoders skip
	out := bytes.Clone(blob[:at-header])
	for _, frame := range [][]byte{packed, split} {
		out = binary.LittleEndian.AppendUint32(out, magic)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(frame)))
		out = append(out, frame...)
	}
	return out, map[string]string{
		TableDigest:   digest.FromBytes(packed).String(),
		TablePosition: fmt.Sprintf("%d:%d:%d:1", at, len(packed), len(table)),
		SplitPosition: fmt.Sprintf("%d:%d:%d", at+int64(len(packed))+header, splitLength, splitPlain),
	}
}

// Built is an image as blobs.
type Built struct {
	Blobs map[digest.Digest][]byte
	// Large are blobs in files, by the names of these.
	Large    map[digest.Digest]string
	Manifest digest.Digest
	// Layers are the digests of the layers' blobs.
	Layers []digest.Digest
	// DiffIDs are those of the image's configuration.
	DiffIDs []digest.Digest
}

func (b *Built) add(data []byte) digest.Digest {
	d := digest.FromBytes(data)
	b.Blobs[d] = data
	return d
}

func (b *Built) addJSON(t testing.TB, v any) (digest.Digest, int64) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b.add(data), int64(len(data))
}

// Build makes the blobs of an image.
func Build(t testing.TB, img Image) *Built {
	t.Helper()
	b := &Built{Blobs: make(map[digest.Digest][]byte)}
	var layers []imgspecv1.Descriptor
	for _, l := range img.Layers {
		diffID := l.DiffID
		if diffID == "" {
			diffID = digest.FromBytes(l.Tar)
		}
		b.DiffIDs = append(b.DiffIDs, diffID)
		var blob []byte
		var annotations map[string]string
		if l.Compression == "zstd:chunked" {
			blob, annotations = Chunked(t, l.Tar)
			if l.Table != nil {
				blob, annotations = retable(t, blob, annotations, l.Table)
			}
		} else {
			blob = Compress(t, l.Tar, l.Compression)
		}
		if l.Annotations != nil {
			annotations = l.Annotations(annotations)
		}
		kind := l.MediaType
		if kind == "" {
			kind = mediaType(l.Compression)
		}
		d := b.add(blob)
		b.Layers = append(b.Layers, d)
		layers = append(layers, imgspecv1.Descriptor{MediaType: kind, Digest: d, Size: int64(len(blob)), URLs: l.URLs, Annotations: annotations})
	}
	b.describe(t, img, layers)
	return b
}

func mediaType(compression string) string {
	kind, _, _ := strings.Cut(compression, ":")
	if kind == "" {
		return imgspecv1.MediaTypeImageLayer
	}
	return imgspecv1.MediaTypeImageLayer + "+" + kind
}

// describe adds configuration and manifest.
func (b *Built) describe(t testing.TB, img Image, layers []imgspecv1.Descriptor) {
	t.Helper()
	arch := img.Architecture
	if arch == "" {
		arch = runtime.GOARCH
	}
	d, size := b.addJSON(t, imgspecv1.Image{
		Platform: imgspecv1.Platform{OS: "linux", Architecture: arch},
		Config:   imgspecv1.ImageConfig{Labels: img.Labels},
		RootFS:   imgspecv1.RootFS{Type: "layers", DiffIDs: b.DiffIDs},
	})
	b.Manifest, _ = b.addJSON(t, imgspecv1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imgspecv1.MediaTypeImageManifest,
		Config:    imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageConfig, Digest: d, Size: size},
		Layers:    layers,
	})
}

// Join makes one image for several architectures; the keys are those.
func Join(t testing.TB, images map[string]*Built) *Built {
	t.Helper()
	all := &Built{Blobs: make(map[digest.Digest][]byte)}
	index := imgspecv1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageIndex}
	for arch, b := range images {
		for d, blob := range b.Blobs {
			all.Blobs[d] = blob
		}
		index.Manifests = append(index.Manifests, imgspecv1.Descriptor{
			MediaType: imgspecv1.MediaTypeImageManifest,
			Digest:    b.Manifest,
			Size:      int64(len(b.Blobs[b.Manifest])),
			Platform:  &imgspecv1.Platform{OS: "linux", Architecture: arch},
		})
	}
	all.Manifest, _ = all.addJSON(t, index)
	return all
}

func (b *Built) mediaType() string {
	var m struct {
		MediaType string `json:"mediaType"`
	}
	_ = json.Unmarshal(b.Blobs[b.Manifest], &m)
	return m.MediaType
}

// Files are the files of an OCI layout with the image, under the given tag.
func (b *Built) Files(t testing.TB, tag string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{imgspecv1.ImageLayoutFile: []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	for d, blob := range b.Blobs {
		files["blobs/"+d.Algorithm().String()+"/"+d.Encoded()] = blob
	}
	desc := imgspecv1.Descriptor{MediaType: b.mediaType(), Digest: b.Manifest, Size: int64(len(b.Blobs[b.Manifest]))}
	if tag != "" {
		desc.Annotations = map[string]string{imgspecv1.AnnotationRefName: tag}
	}
	index, err := json.Marshal(imgspecv1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []imgspecv1.Descriptor{desc}})
	if err != nil {
		t.Fatal(err)
	}
	files[imgspecv1.ImageIndexFile] = index
	return files
}

// Layout writes an OCI layout into a new directory and returns it.
func (b *Built) Layout(t testing.TB, tag string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range b.Files(t, tag) {
		Write(t, filepath.Join(dir, name), data)
	}
	return dir
}

// OCIArchive writes an OCI archive and returns its path.
func (b *Built) OCIArchive(t testing.TB, tag, compression string) string {
	t.Helper()
	return archive(t, b.Files(t, tag), compression)
}

// DockerArchive writes what docker save wrote before version 25.
func (b *Built) DockerArchive(t testing.TB, tag string) string {
	t.Helper()
	var m imgspecv1.Manifest
	if err := json.Unmarshal(b.Blobs[b.Manifest], &m); err != nil {
		t.Fatal(err)
	}
	item := map[string]any{"Config": m.Config.Digest.Encoded() + ".json", "RepoTags": []string{tag}}
	files := map[string][]byte{m.Config.Digest.Encoded() + ".json": b.Blobs[m.Config.Digest]}
	var names []string
	for i, l := range m.Layers {
		name := fmt.Sprintf("%064x/layer.tar", i)
		names = append(names, name)
		files[name] = b.Blobs[l.Digest]
	}
	item["Layers"] = names
	manifest, err := json.Marshal([]any{item})
	if err != nil {
		t.Fatal(err)
	}
	files["manifest.json"] = manifest
	return archive(t, files, "")
}

func archive(t testing.TB, files map[string][]byte, compression string) string {
	t.Helper()
	var entries []tar.Header
	bodies := make(map[string]string)
	for name, data := range files {
		entries = append(entries, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644})
		bodies[name] = string(data)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	Write(t, path, Compress(t, Tar(t, entries, bodies), compression))
	return path
}

// Write writes a file and the directories above it.
func Write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
}
