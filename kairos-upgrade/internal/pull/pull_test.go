package pull

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/composefs"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// memory is an object store and a cache in memory.
type memory struct {
	mu      sync.Mutex
	objects map[fsverity.Digest]bool
	layers  map[string][]byte
}

func newMemory() *memory {
	return &memory{objects: map[fsverity.Digest]bool{}, layers: map[string][]byte{}}
}

func (m *memory) Put(_ context.Context, r io.Reader, _ int64) (fsverity.Digest, error) {
	d, _, err := fsverity.File(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.objects[d] = true
	}
	return d, err
}

func (m *memory) Has(d fsverity.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects[d]
}

func (m *memory) Load(diffID string) (*layer.Layer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	record, ok := m.layers[diffID]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return layer.Decode(bytes.NewReader(record), layer.Limits{})
}

func (m *memory) Save(diffID string, l *layer.Layer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var record bytes.Buffer
	err := l.Encode(&record)
	m.layers[diffID] = record.Bytes()
	return err
}

// policy accepts everything.
func policy(t testing.TB) string {
	path := t.TempDir() + "/policy.json"
	imagetest.Write(t, path, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`))
	return path
}

func dir(name string) tar.Header  { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
func file(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }

// twoLayers is an image whose upper layer replaces one file of the lower.
func twoLayers(t testing.TB) *imagetest.Built {
	big := func(c string) string { return strings.Repeat(c, 100_000) }
	return imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{
		{Compression: "gzip", Tar: imagetest.Tar(t,
			[]tar.Header{dir("usr/"), file("usr/kept"), file("usr/replaced")},
			map[string]string{"usr/kept": big("k"), "usr/replaced": big("r")})},
		{Tar: imagetest.Tar(t,
			[]tar.Header{file("usr/replaced"), file("usr/added")},
			map[string]string{"usr/replaced": big("R"), "usr/added": "small"})},
	}})
}

func open(t testing.TB, ref string, o source.Options) *source.Image {
	t.Helper()
	o.PolicyFile = policy(t)
	img, err := source.Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}

func big(c string) fsverity.Digest { return fsverity.Bytes(bytes.Repeat([]byte(c), 100_000)) }

// pulled runs Tree and checks the tree of twoLayers.
func pulled(t *testing.T, img *source.Image, m *memory) Stats {
	t.Helper()
	before := img.Fetched()
	root, stats, err := Tree(t.Context(), img, m, Options{Cache: m})
	if err != nil {
		t.Fatal(err)
	}
	stats.Bytes -= before
	if n := root.Find("usr/kept"); n == nil || n.Digest != big("k") {
		t.Errorf("usr/kept: %+v", n)
	}
	if n := root.Find("usr/replaced"); n == nil || n.Digest != big("R") {
		t.Errorf("usr/replaced: %+v", n)
	}
	if n := root.Find("usr/added"); n == nil || n.Content != "small" {
		t.Errorf("usr/added: %+v", n)
	}
	for _, n := range root.Walk() {
		if n.HasObject() && !m.Has(n.Digest) {
			t.Errorf("object %s is missing", n.Digest)
		}
	}
	return stats
}

// TestReuse: a layer is fetched once, and again only if something of it is
// needed and gone.
func TestReuse(t *testing.T) {
	b := twoLayers(t)
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", b)
	img := open(t, registry.Host+"/os:v1", source.Options{RegistriesConf: registry.Conf(t)})
	m := newMemory()
	steps := []struct {
		name            string
		change          func()
		fetched, reused int
	}{
		{"first time", func() {}, 2, 0},
		{"nothing changed", func() {}, 0, 2},
		{"hidden content gone", func() { delete(m.objects, big("r")) }, 0, 2},
		{"content of the lower layer gone", func() { delete(m.objects, big("k")) }, 1, 1},
		{"content of the upper layer gone", func() { delete(m.objects, big("R")) }, 1, 1},
		{"content of both gone", func() { clear(m.objects) }, 2, 0},
		{"record gone", func() { delete(m.layers, img.Layers[1].DiffID.String()) }, 1, 1},
		{"record damaged", func() { m.layers[img.Layers[0].DiffID.String()][30] ^= 1 }, 1, 1},
		{"records gone", func() { clear(m.layers) }, 2, 0},
	}
	for _, step := range steps {
		step.change()
		before := registry.Blobs()
		stats := pulled(t, img, m)
		if stats.Layers != 2 || stats.Fetched != step.fetched || stats.Reused != step.reused {
			t.Errorf("%s: %+v", step.name, stats)
		}
		if n := registry.Blobs() - before; n != step.fetched {
			t.Errorf("%s: %d requests for layers", step.name, n)
		}
		if (stats.Bytes > 0) != (step.fetched > 0) {
			t.Errorf("%s: %d bytes fetched", step.name, stats.Bytes)
		}
	}
}

// TestNeeded: what nobody needs may be gone from a reused layer.
func TestNeeded(t *testing.T) {
	img := open(t, "oci:"+twoLayers(t).Layout(t, ""), source.Options{})
	m := newMemory()
	pulled(t, img, m)
	clear(m.objects)
	needed := func(root *tree.Inode, visit func(fsverity.Digest)) error {
		visit(root.Find("usr/kept").Digest)
		return nil
	}
	_, stats, err := Tree(t.Context(), img, m, Options{Cache: m, Needed: needed})
	if err != nil || stats.Fetched != 1 || stats.Reused != 1 || !m.Has(big("k")) || m.Has(big("R")) {
		t.Errorf("%+v, %v", stats, err)
	}
	failure := errors.New("no kernel")
	if _, _, err := Tree(t.Context(), img, m, Options{Cache: m, Needed: func(*tree.Inode, func(fsverity.Digest)) error { return failure }}); !errors.Is(err, failure) {
		t.Errorf("error %v, want %v", err, failure)
	}
}

func TestWithoutCache(t *testing.T) {
	img := open(t, "oci:"+twoLayers(t).Layout(t, ""), source.Options{})
	root, stats, err := Tree(t.Context(), img, layer.Discard, Options{})
	if err != nil || stats.Fetched != 2 || root.Find("usr/kept").Digest != big("k") {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestSameLayerTwice: an image may hold a layer more than once.
func TestSameLayerTwice(t *testing.T) {
	one := imagetest.Layer{Compression: "gzip", Tar: imagetest.Tar(t, []tar.Header{dir("d/"), file("d/f")}, map[string]string{"d/f": "1"})}
	two := imagetest.Layer{Compression: "gzip", Tar: imagetest.Tar(t, []tar.Header{file("d/f"), file(".wh.x")}, map[string]string{"d/f": "2"})}
	b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{one, two, one, two, one}})
	m := newMemory()
	img := open(t, "oci:"+b.Layout(t, ""), source.Options{})
	for range 2 {
		root, _, err := Tree(t.Context(), img, m, Options{Cache: m})
		if err != nil {
			t.Fatal(err)
		}
		if n := root.Find("d/f"); n == nil || n.Content != "1" {
			t.Errorf("d/f: %+v", n)
		}
	}
}

// TestSameDigest: the composefs image has one digest wherever the container
// image is.
func TestSameDigest(t *testing.T) {
	b := twoLayers(t)
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", b)
	digests := make(map[fsverity.Digest][]string)
	for _, ref := range []string{
		registry.Host + "/os:v1",
		"oci:" + b.Layout(t, ""),
		"oci-archive:" + b.OCIArchive(t, "", ""),
		"oci-archive:" + b.OCIArchive(t, "", "gzip"),
		"docker-archive:" + b.DockerArchive(t, "example.com/os:v1"),
	} {
		img := open(t, ref, source.Options{RegistriesConf: registry.Conf(t)})
		root, _, err := Tree(t.Context(), img, layer.Discard, Options{})
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if err := tree.Normalize(root, tree.NormalizeOptions{}); err != nil {
			t.Fatal(err)
		}
		d, err := composefs.Write(io.Discard, root)
		if err != nil {
			t.Fatal(err)
		}
		digests[d] = append(digests[d], ref)
	}
	if len(digests) != 1 {
		t.Errorf("digests: %v", digests)
	}
}

// TestFaults: what goes wrong while fetching leaves no tree and no record, and
// the cause is said.
func TestFaults(t *testing.T) {
	b := twoLayers(t)
	for name, test := range map[string]struct {
		serve func(w http.ResponseWriter, blob []byte)
		want  string
	}{
		"another blob": {func(w http.ResponseWriter, p []byte) { w.Write(bytes.Repeat([]byte("x"), len(p))) }, "digest"},
		"gone":         {func(w http.ResponseWriter, p []byte) { http.Error(w, "gone", 404) }, "404"},
		"short": {func(w http.ResponseWriter, p []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(len(p)/2))
			w.Write(p[:len(p)/2])
		}, "the manifest says"},
	} {
		t.Run(name, func(t *testing.T) {
			registry := imagetest.NewRegistry(t)
			registry.Push("os", "v1", b)
			registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
				if !strings.HasSuffix(r.URL.Path, b.Layers[1].String()) {
					return false
				}
				test.serve(w, blob)
				return true
			})
			m := newMemory()
			img := open(t, registry.Host+"/os:v1", source.Options{RegistriesConf: registry.Conf(t)})
			root, _, err := Tree(t.Context(), img, m, Options{Cache: m, Parallel: 1})
			if err == nil || root != nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "layer 2 of 2") {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
			if _, err := m.Load(img.Layers[1].DiffID.String()); err == nil {
				t.Error("a broken layer has a record")
			}
			registry.SetFault(nil)
			if stats := pulled(t, img, m); stats.Reused != 1 {
				t.Errorf("the whole layer is fetched again: %+v", stats)
			}
		})
	}
}

// TestRetry: a layer whose transfer breaks off for good is fetched anew.
func TestRetry(t *testing.T) {
	b := twoLayers(t)
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", b)
	var failures atomic.Int32
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || blob == nil || failures.Add(1) > 1 {
			return false
		}
		http.Error(w, "no", http.StatusBadGateway)
		return true
	})
	img := open(t, registry.Host+"/os:v1", source.Options{RegistriesConf: registry.Conf(t)})
	pulled(t, img, newMemory())
	if failures.Load() < 3 {
		t.Errorf("%d requests: the fault was not met", failures.Load())
	}
}

// TestHostileLayer: a layer that is what its digest says but can't be unpacked
// is an error about its entry.
func TestHostileLayer(t *testing.T) {
	b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{
		{Compression: "gzip", Tar: imagetest.Tar(t, []tar.Header{file("../../etc/passwd")}, nil)},
	}})
	img := open(t, "oci:"+b.Layout(t, ""), source.Options{})
	_, _, err := Tree(t.Context(), img, layer.Discard, Options{})
	if !errors.Is(err, layer.ErrLayer) || !strings.Contains(err.Error(), "../../etc/passwd") {
		t.Error(err)
	}
}

// TestLimits: limits hold for all layers together.
func TestLimits(t *testing.T) {
	img := open(t, "oci:"+twoLayers(t).Layout(t, ""), source.Options{})
	m := newMemory()
	for _, name := range []string{"fetched", "reused"} {
		if _, _, err := Tree(t.Context(), img, m, Options{Cache: m, Limits: layer.Limits{Entries: 5}}); !errors.Is(err, layer.ErrLimit) {
			t.Errorf("%s, 6 entries where 5 may be: %v", name, err)
		}
		if _, _, err := Tree(t.Context(), img, m, Options{Cache: m, Limits: layer.Limits{Entries: 6}}); err != nil {
			t.Errorf("%s, 6 entries: %v", name, err)
		}
	}
}

func TestProgress(t *testing.T) {
	var layers []imagetest.Layer
	for i := range 20 {
		name := fmt.Sprintf("f%d", i)
		layers = append(layers, imagetest.Layer{Compression: "gzip", Tar: imagetest.Tar(t, []tar.Header{file(name)}, map[string]string{name: name})})
	}
	img := open(t, "oci:"+imagetest.Build(t, imagetest.Image{Layers: layers}).Layout(t, ""), source.Options{})
	var last, sum, calls int64
	for _, l := range img.Layers {
		sum += l.Size
	}
	m := newMemory()
	progress := func(done, total int64) {
		if calls++; done < last || total != sum {
			t.Errorf("%d of %d after %d; all is %d", done, total, last, sum)
		}
		last = done
	}
	if _, _, err := Tree(t.Context(), img, m, Options{Cache: m, Progress: progress}); err != nil {
		t.Fatal(err)
	}
	if calls == 0 || last != sum {
		t.Errorf("%d calls, the last one with %d of %d", calls, last, sum)
	}
	calls = 0
	if _, _, err := Tree(t.Context(), img, m, Options{Cache: m, Progress: progress}); err != nil || calls != 0 {
		t.Errorf("%d calls although nothing was fetched, %v", calls, err)
	}
}

func TestCancelled(t *testing.T) {
	img := open(t, "oci:"+twoLayers(t).Layout(t, ""), source.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Tree(ctx, img, layer.Discard, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
