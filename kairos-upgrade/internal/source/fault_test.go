package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/exit"
	digest "github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// faulty is a registry with one image, and the reference of that.
func faulty(t *testing.T, b *imagetest.Built) (*imagetest.Registry, string, Options) {
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", b)
	o := accepting(t)
	o.RegistriesConf = registry.Conf(t)
	return registry, registry.Host + "/os:v1", o
}

// isLayer reports whether a request is for the blob of a layer.
func isLayer(r *http.Request, b *imagetest.Built) bool {
	for _, d := range b.Layers {
		if strings.HasSuffix(r.URL.Path, "/blobs/"+d.String()) {
			return true
		}
	}
	return false
}

// hijack sends a response whose headers promise more than the body holds.
func hijack(w http.ResponseWriter, headers string, body []byte) {
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	buf.WriteString("HTTP/1.1 " + headers + "\r\n\r\n")
	buf.Write(body)
	buf.Flush()
}

// TestLayerFaults: whatever goes wrong with the blob of a layer, reading it
// ends with an error that says so.
func TestLayerFaults(t *testing.T) {
	b := testImage(t, "gzip")
	flipped := func(p []byte, at int) []byte {
		p = bytes.Clone(p)
		p[at] ^= 1
		return p
	}
	length := func(n int) string { return "200 OK\r\nContent-Length: " + strconv.Itoa(n) }
	for name, test := range map[string]struct {
		serve func(w http.ResponseWriter, blob []byte)
		want  string
	}{
		"truncated":               {func(w http.ResponseWriter, p []byte) { hijack(w, length(len(p)), p[:len(p)/2]) }, "EOF"},
		"short":                   {func(w http.ResponseWriter, p []byte) { w.Write(p[:len(p)-1]) }, "bytes"},
		"short, length unknown":   {func(w http.ResponseWriter, p []byte) { hijack(w, "200 OK", p[:len(p)-1]) }, "only"},
		"long":                    {func(w http.ResponseWriter, p []byte) { w.Write(append(bytes.Clone(p), 0)) }, "bytes"},
		"long, length unknown":    {func(w http.ResponseWriter, p []byte) { hijack(w, "200 OK", append(bytes.Clone(p), p...)) }, "larger than"},
		"empty":                   {func(w http.ResponseWriter, p []byte) {}, "bytes"},
		"first byte wrong":        {func(w http.ResponseWriter, p []byte) { w.Write(flipped(p, 0)) }, "digest"},
		"a byte wrong":            {func(w http.ResponseWriter, p []byte) { w.Write(flipped(p, len(p)/2)) }, ""},
		"last byte wrong":         {func(w http.ResponseWriter, p []byte) { w.Write(flipped(p, len(p)-1)) }, ""},
		"a harmless byte wrong":   {func(w http.ResponseWriter, p []byte) { w.Write(flipped(p, 5)) }, "digest"},
		"a page instead":          {func(w http.ResponseWriter, p []byte) { w.Write([]byte("<html>log in</html>")) }, "bytes"},
		"404":                     {func(w http.ResponseWriter, p []byte) { http.Error(w, "gone", 404) }, "404"},
		"500":                     {func(w http.ResponseWriter, p []byte) { http.Error(w, "oops", 500) }, "500"},
		"503":                     {func(w http.ResponseWriter, p []byte) { http.Error(w, "busy", 503) }, "503"},
		"403":                     {func(w http.ResponseWriter, p []byte) { http.Error(w, "no", 403) }, "403"},
		"401":                     {func(w http.ResponseWriter, p []byte) { http.Error(w, "who?", 401) }, ""},
		"connection closed":       {func(w http.ResponseWriter, p []byte) { hijack(w, "", nil) }, ""},
		"range where none wanted": {func(w http.ResponseWriter, p []byte) { hijack(w, "206 Partial Content", p) }, "206"},
	} {
		t.Run(name, func(t *testing.T) {
			registry, ref, o := faulty(t, b)
			registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
				if !isLayer(r, b) {
					return false
				}
				test.serve(w, blob)
				return true
			})
			_, streams, err := readAll(t, ref, o)
			if err == nil {
				t.Fatalf("no error, %d streams", len(streams))
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "layer 1 of 2") {
				t.Errorf("error %q, want one about %q", err, test.want)
			}
		})
	}
}

// TestResume drops the connection in the middle of a blob once: the rest is
// fetched by a range.
func TestResume(t *testing.T) {
	b := testImage(t, "")
	registry, ref, o := faulty(t, b)
	var dropped atomic.Bool
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !isLayer(r, b) || dropped.Swap(true) {
			return false
		}
		hijack(w, "200 OK\r\nContent-Length: "+strconv.Itoa(len(blob)), blob[:len(blob)/2])
		return true
	})
	img, streams, err := readAll(t, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, streams)
	if want := img.Layers[0].Size + img.Layers[1].Size; img.Fetched() != want {
		t.Errorf("fetched %d bytes, want %d: nothing twice", img.Fetched(), want)
	}
}

// TestOpenFaults: what a person sees when a reference can't be opened.
func TestOpenFaults(t *testing.T) {
	b := testImage(t, "gzip")
	registry, ref, o := faulty(t, b)
	text := func(ref string, wants ...string) {
		t.Helper()
		_, err := Open(t.Context(), ref, o)
		if err == nil {
			t.Errorf("%s opens", ref)
			return
		}
		for _, want := range append(wants, "open image ") {
			if !strings.Contains(err.Error()+"\n"+exit.HintOf(err), want) {
				t.Errorf("%s: %q lacks %q (hint: %s)", ref, err, want, exit.HintOf(err))
			}
		}
		if exit.HintOf(err) == "" {
			t.Errorf("%s: no hint: %v", ref, err)
		}
	}
	text(registry.Host+"/os:v2", "manifest unknown", registry.Host, "v2", "check repository and tag")
	text(registry.Host+"/other:v1", "manifest unknown", "other")
	text(registry.Host+"/os@"+digest.FromString("x").String(), "manifest unknown")

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	text(closed.Addr().String()+"/os:v1", "connection refused", "no server listens")
	o.RegistriesConf = writeFile(t, "registries.conf", "")
	text("registry.invalid/os:v1", "registry.invalid", "DNS")

	if _, err := Open(t.Context(), registry.Host+"/os:v1", o); !errors.Is(err, ErrNoTLS) {
		t.Errorf("without TLS: %v", err)
	}

	o.RegistriesConf = registry.Conf(t)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return true
	})
	text(ref, "auth.json")
}

// TestOpenRetries: a server in trouble is asked again, but not for ever.
func TestOpenRetries(t *testing.T) {
	b := testImage(t, "gzip")
	registry, ref, o := faulty(t, b)
	var manifests atomic.Int32
	failures := int32(2)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") || manifests.Add(1) > failures {
			return false
		}
		http.Error(w, "try later", http.StatusServiceUnavailable)
		return true
	})
	if _, _, err := readAll(t, ref, o); err != nil {
		t.Errorf("after two failures: %v", err)
	}
	manifests.Store(0)
	failures = 1000
	if _, _, err := readAll(t, ref, o); err == nil || manifests.Load() != Attempts {
		t.Errorf("%d attempts: %v", manifests.Load(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, ref, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// TestWrongManifest: a registry that gives another manifest than the one asked
// for by digest, or whose tag moves, is found out.
func TestWrongManifest(t *testing.T) {
	b := testImage(t, "gzip")
	registry, _, o := faulty(t, b)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", imgspecv1.MediaTypeImageManifest)
		w.Write(append(bytes.Clone(blob), '\n'))
		return true
	})
	if _, err := Open(t.Context(), registry.Host+"/os@"+b.Manifest.String(), o); err == nil {
		t.Error("a manifest with another digest is accepted")
	}
}

// TestCancel: a cancelled context ends a stream that has stalled.
func TestCancel(t *testing.T) {
	b := testImage(t, "")
	registry, ref, o := faulty(t, b)
	stalled := make(chan struct{})
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !isLayer(r, b) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(blob)))
		w.Write(blob[:1000])
		w.(http.Flusher).Flush()
		close(stalled)
		<-r.Context().Done()
		return true
	})
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-stalled; cancel() }()
	if _, err := readLayer(ctx, img, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// TestCloseEarly: a stalled transfer does not keep Close waiting.
func TestCloseEarly(t *testing.T) {
	b := testImage(t, "")
	registry, ref, o := faulty(t, b)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !isLayer(r, b) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(blob)))
		w.Write(blob[:aheadBlock+1000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	r, err := img.OpenLayer(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	r.Close()
}

// TestOddImages: images that are what their digests say, and still no good.
func TestOddImages(t *testing.T) {
	whole := imagetest.Compress(t, lowerTar(t), "gzip")
	for name, test := range map[string]struct {
		layer imagetest.Layer
		want  string
	}{
		"wrong diff ID":      {imagetest.Layer{Tar: lowerTar(t), Compression: "gzip", DiffID: digest.FromString("other")}, "diff ID"},
		"malformed diffID":   {imagetest.Layer{Tar: lowerTar(t), DiffID: "sha256:../../x"}, "diff ID"},
		"truncated gzip":     {imagetest.Layer{Tar: whole[:len(whole)/2], DiffID: digest.FromBytes(lowerTar(t))}, "ends in the middle"},
		"gzip trailer":       {imagetest.Layer{Tar: whole[:len(whole)-4], DiffID: digest.FromBytes(lowerTar(t))}, "ends in the middle"},
		"gzip and garbage":   {imagetest.Layer{Tar: append(bytes.Clone(whole), "garbage"...), DiffID: digest.FromBytes(lowerTar(t))}, ""},
		"bzip2":              {imagetest.Layer{Tar: []byte("BZh91AY&SY..........")}, "bzip2"},
		"xz":                 {imagetest.Layer{Tar: []byte("\xfd7zXZ\x00..........")}, "xz"},
		"zstd, 2 GiB window": {imagetest.Layer{Tar: []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0}}, "window"},
		"encrypted":          {imagetest.Layer{Tar: lowerTar(t), MediaType: imgspecv1.MediaTypeImageLayerGzip + "+encrypted"}, "encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{test.layer}})
			_, _, err := readAll(t, "oci:"+b.Layout(t, ""), accepting(t))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
}

// TestZstdFrames: several frames, and skippable ones such as zstd:chunked has
// behind its content, are one stream.
func TestZstdFrames(t *testing.T) {
	data := lowerTar(t)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 5, 0, 0, 0}, "table"...)
	blob := append(bytes.Clone(skippable), imagetest.Compress(t, data[:100_000], "zstd")...)
	blob = append(blob, imagetest.Compress(t, data[100_000:], "zstd")...)
	blob = append(blob, skippable...)
	b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{
		Tar: blob, DiffID: digest.FromBytes(data), MediaType: imgspecv1.MediaTypeImageLayerZstd,
	}}})
	_, streams, err := readAll(t, "oci:"+b.Layout(t, ""), accepting(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(streams[0], data) {
		t.Error("another stream comes out")
	}
}

// TestForeignLayers: a layer that its manifest calls foreign is read where its
// blob is with the image. Nobody else is asked for it: not the addresses that the
// manifest names.
func TestForeignLayers(t *testing.T) {
	asked := imagetest.NewRegistry(t)
	asked.SetFault(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		t.Errorf("%s was asked for", r.URL)
		return false
	})
	for _, mediaType := range []string{
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		//lint:ignore SA1019 images have it still
		imgspecv1.MediaTypeImageLayerNonDistributableGzip,
		imgspecv1.MediaTypeImageLayerGzip,
	} {
		b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{
			{Tar: lowerTar(t), Compression: "gzip", MediaType: mediaType, URLs: []string{"http://" + asked.Host + "/layer"}},
		}})
		registry, ref, o := faulty(t, b)
		_, streams, err := readAll(t, ref, o)
		if err != nil || !bytes.Equal(streams[0], lowerTar(t)) {
			t.Errorf("%s: %v", mediaType, err)
		}
		if _, _, err := readAll(t, "oci:"+b.Layout(t, ""), o); err != nil {
			t.Errorf("%s in a layout: %v", mediaType, err)
		}
		registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if !isLayer(r, b) {
				return false
			}
			http.NotFound(w, r)
			return true
		})
		if _, _, err = readAll(t, ref, o); err == nil || !strings.Contains(err.Error(), "not stored with the image") || exit.HintOf(err) == "" {
			t.Errorf("%s that isn't there: %v", mediaType, err)
		}
	}
}

// TestManifests: manifests that are no images of ours.
func TestManifests(t *testing.T) {
	b := testImage(t, "")
	var m imgspecv1.Manifest
	if err := json.Unmarshal(b.Blobs[b.Manifest], &m); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		edit func(m *imgspecv1.Manifest)
		want string
	}{
		"a layer less":  {func(m *imgspecv1.Manifest) { m.Layers = m.Layers[:1] }, "1 layers, the configuration 2"},
		"an artifact":   {func(m *imgspecv1.Manifest) { m.Config.MediaType = "application/vnd.example+json" }, "artifact"},
		"unknown type":  {func(m *imgspecv1.Manifest) { m.MediaType = "application/vnd.example" }, "unknown type"},
		"bad digest":    {func(m *imgspecv1.Manifest) { m.Layers[0].Digest = "sha256:../../../etc/passwd" }, "digest"},
		"no config":     {func(m *imgspecv1.Manifest) { m.Config.Digest = digest.FromString("none") }, "no such file"},
		"large":         {func(m *imgspecv1.Manifest) { m.Annotations = map[string]string{"x": strings.Repeat("x", maxManifest)} }, "at most"},
		"negative size": {func(m *imgspecv1.Manifest) { m.Layers[0].Size = -7 }, "size"},
		"many layers": {func(m *imgspecv1.Manifest) {
			for len(m.Layers) <= maxLayers {
				m.Layers = append(m.Layers, m.Layers[0])
			}
		}, "layers"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := m
			changed.Layers = append([]imgspecv1.Descriptor{}, m.Layers...)
			test.edit(&changed)
			raw, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			c := &imagetest.Built{Blobs: map[digest.Digest][]byte{}, Manifest: digest.FromBytes(raw)}
			for d, blob := range b.Blobs {
				c.Blobs[d] = blob
			}
			c.Blobs[c.Manifest] = raw
			if _, err := Open(t.Context(), "oci:"+c.Layout(t, ""), accepting(t)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
}

// TestArchiveFaults: archives and layouts that are broken.
func TestArchiveFaults(t *testing.T) {
	b := testImage(t, "")
	fails := func(name, ref, want string) {
		t.Helper()
		_, _, err := readAll(t, ref, accepting(t))
		if err == nil || !strings.Contains(err.Error()+exit.HintOf(err), want) {
			t.Errorf("%s: error %v, want one about %q", name, err, want)
		}
	}
	for _, compression := range []string{"", "gzip"} {
		whole, err := os.ReadFile(b.OCIArchive(t, "v1", compression))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []int{3, 10, 50, 90} {
			cut := writeFile(t, "cut.tar", string(whole[:len(whole)*part/100]))
			_, _, err := readAll(t, "oci-archive:"+cut, accepting(t))
			if err == nil {
				t.Errorf("an archive cut at %d %% is read", part)
			}
		}
		cut := writeFile(t, "cut.tar", string(whole[:len(whole)/2]))
		fails("cut", "oci-archive:"+cut, "truncated")
		fails("cut", "file:"+cut, "")
	}
	whole, err := os.ReadFile(b.DockerArchive(t, "x:y"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []int{3, 10, 50, 90} {
		cut := writeFile(t, "cut.tar", string(whole[:len(whole)*part/100]))
		fails("docker archive cut", "docker-archive:"+cut, "truncated")
	}
	layout := b.Layout(t, "v1")
	fails("no such tag", "oci:"+layout+":v2", `no image has the name "v2"`)
	fails("no such index", "oci:"+layout+":@1", "no image @1")
	fails("no layout", "oci:"+t.TempDir(), "not an OCI layout")
	fails("docker as oci", "oci-archive:"+b.DockerArchive(t, "x:y"), "not an OCI layout")
	fails("text", "oci-archive:"+writeFile(t, "text", strings.Repeat("text ", 1000)), "read archive")

	manifest := filepath.Join(layout, "blobs/sha256", b.Manifest.Encoded())
	imagetest.Write(t, manifest, append(bytes.Clone(b.Blobs[b.Manifest]), ' '))
	fails("manifest changed", "oci:"+layout, "digest")
	os.Remove(manifest)
	fails("manifest missing", "oci:"+layout, "no such file")
}
