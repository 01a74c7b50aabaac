package source

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/exit"
	digest "github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
)

func TestMain(m *testing.M) {
	if Init() {
		return
	}
	firstPause = time.Millisecond
	os.Exit(m.Run())
}

const acceptAll = `{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}`

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	imagetest.Write(t, path, []byte(content))
	return path
}

// accepting are options under which every image is accepted and nothing of
// this machine's settings counts.
func accepting(t testing.TB) Options {
	return Options{
		PolicyFile:        writeFile(t, "policy.json", acceptAll),
		RegistriesConf:    writeFile(t, "registries.conf", ""),
		RegistriesConfDir: t.TempDir(),
		AuthFile:          writeFile(t, "auth.json", "{}"),
		TempDir:           t.TempDir(),
	}
}

func lowerTar(t testing.TB) []byte {
	return imagetest.Tar(t, []tar.Header{{Name: "usr/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "usr/a", Typeflag: tar.TypeReg, Mode: 0o644}},
		map[string]string{"usr/a": strings.Repeat("content of a\n", 50_000)})
}

func upperTar(t testing.TB) []byte {
	return imagetest.Tar(t, upperHeader, map[string]string{"usr/b": "b"})
}

var upperHeader = []tar.Header{{Name: "usr/b", Typeflag: tar.TypeReg, Mode: 0o644}}

func testImage(t testing.TB, compression string) *imagetest.Built {
	return imagetest.Build(t, imagetest.Image{
		Layers: []imagetest.Layer{{Tar: lowerTar(t), Compression: compression}, {Tar: upperTar(t), Compression: compression}},
		Labels: map[string]string{"org.opencontainers.image.version": "v1.2", "other": "label"},
	})
}

// readAll opens an image and returns the streams of its layers.
func readAll(t *testing.T, ref string, o Options) (*Image, [][]byte, error) {
	t.Helper()
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { img.Close() })
	var streams [][]byte
	for i := range img.Layers {
		data, err := readLayer(t.Context(), img, i)
		if err != nil {
			return img, nil, err
		}
		streams = append(streams, data)
	}
	return img, streams, nil
}

func readLayer(ctx context.Context, img *Image, i int) ([]byte, error) {
	r, err := img.OpenLayer(ctx, i)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// TestForms reads the same image from every place that it can be in.
func TestForms(t *testing.T) {
	for _, compression := range []string{"", "gzip", "zstd"} {
		b := testImage(t, compression)
		registry := imagetest.NewRegistry(t)
		registry.Push("os/node", "v1", b)
		o := accepting(t)
		o.RegistriesConf = registry.Conf(t)
		layout := b.Layout(t, "v1")
		archive := b.OCIArchive(t, "v1", "")
		sources := map[string]string{
			"registry":                 registry.Host + "/os/node:v1",
			"registry, docker://":      "docker://" + registry.Host + "/os/node:v1",
			"registry, docker:":        "docker:" + registry.Host + "/os/node:v1",
			"registry as oci:":         "oci:" + registry.Host + "/os/node:v1",
			"registry, digest":         registry.Host + "/os/node@" + b.Manifest.String(),
			"registry, tag and digest": registry.Host + "/os/node:other@" + b.Manifest.String(),
			"layout":                   "oci:" + layout,
			"layout, tag":              "oci:" + layout + ":v1",
			"layout, index":            "oci:" + layout + ":@0",
			"archive":                  "oci-archive:" + archive,
			"archive, tag":             "oci-archive:" + archive + ":v1",
			"archive, gzip":            "oci-archive:" + b.OCIArchive(t, "v1", "gzip"),
			"archive, zstd":            "oci-archive:" + b.OCIArchive(t, "v1", "zstd"),
			"archive as file:":         "file:" + archive,
			"archive as file:, gzip":   "file:" + b.OCIArchive(t, "", "gzip"),
			"dir":                      "dir:" + dirLayoutOf(t, b),
		}
		for name, ref := range sources {
			t.Run(compression+" "+name, func(t *testing.T) {
				img, streams, err := readAll(t, ref, o)
				if err != nil {
					t.Fatalf("%v (hint: %s)", err, exit.HintOf(err))
				}
				checkImage(t, img, streams)
				if img.Reference != ref || img.ManifestDigest != b.Manifest {
					t.Errorf("%+v", img)
				}
				var size int64
				for i, l := range img.Layers {
					size += l.Size
					if l.Digest != b.Layers[i] {
						t.Errorf("layer %d is %s, want %s", i, l.Digest, b.Layers[i])
					}
				}
				if img.Fetched() != size {
					t.Errorf("fetched %d of %d bytes", img.Fetched(), size)
				}
			})
		}
	}
}

func checkImage(t *testing.T, img *Image, streams [][]byte) {
	t.Helper()
	if !bytes.Equal(streams[0], lowerTar(t)) || !bytes.Equal(streams[1], upperTar(t)) {
		t.Error("the streams of the layers are others")
	}
	if img.Version != "v1.2" || img.Labels["other"] != "label" || img.Architecture == "" {
		t.Errorf("%+v", img)
	}
	for i, l := range img.Layers {
		if l.DiffID != digest.FromBytes(streams[i]) {
			t.Errorf("layer %d has diff ID %s", i, l.DiffID)
		}
	}
}

// dirLayoutOf writes what skopeo copy dir: writes.
func dirLayoutOf(t testing.TB, b *imagetest.Built) string {
	dir := t.TempDir()
	imagetest.Write(t, filepath.Join(dir, "version"), []byte("Directory Transport Version: 1.1\n"))
	imagetest.Write(t, filepath.Join(dir, "manifest.json"), b.Blobs[b.Manifest])
	for d, blob := range b.Blobs {
		imagetest.Write(t, filepath.Join(dir, d.Encoded()), blob)
	}
	return dir
}

func TestDockerArchive(t *testing.T) {
	for _, compression := range []string{"", "gzip"} {
		path := testImage(t, compression).DockerArchive(t, "example.com/os:v1")
		for _, ref := range []string{"docker-archive:" + path, "docker-archive:" + path + ":example.com/os:v1", "file:" + path} {
			img, streams, err := readAll(t, ref, accepting(t))
			if err != nil {
				t.Errorf("%s: %v", ref, err)
				continue
			}
			checkImage(t, img, streams)
		}
	}
}

// TestContainersStorage reads an image from a store that was filled without
// containers/image.
func TestContainersStorage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers-storage needs root or a user namespace")
	}
	b := testImage(t, "gzip")
	root, run := t.TempDir(), t.TempDir()
	store, err := storage.GetStore(storage.StoreOptions{GraphRoot: root, RunRoot: run, GraphDriverName: "vfs"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Shutdown(true)
	parent := ""
	for _, data := range [][]byte{lowerTar(t), upperTar(t)} {
		l, _, err := store.PutLayer("", parent, nil, "", false, nil, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		parent = l.ID
	}
	var m imgspecv1.Manifest
	if err := json.Unmarshal(b.Blobs[b.Manifest], &m); err != nil {
		t.Fatal(err)
	}
	_, err = store.CreateImage("", []string{"example.com/os:v1"}, parent, "", &storage.ImageOptions{
		Digest: b.Manifest,
		BigData: []storage.ImageBigDataOption{
			{Key: storage.ImageDigestBigDataKey, Data: b.Blobs[b.Manifest], Digest: b.Manifest},
			{Key: m.Config.Digest.String(), Data: b.Blobs[m.Config.Digest], Digest: m.Config.Digest},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, streams, err := readAll(t, "containers-storage:[vfs@"+root+"+"+run+"]example.com/os:v1", accepting(t))
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, exit.HintOf(err))
	}
	checkImage(t, img, streams)
	if img.ManifestDigest != b.Manifest {
		t.Errorf("manifest %s, want %s", img.ManifestDigest, b.Manifest)
	}
}

func TestArchitectures(t *testing.T) {
	build := func(arch string) *imagetest.Built {
		return imagetest.Build(t, imagetest.Image{Architecture: arch, Layers: []imagetest.Layer{{Tar: upperTar(t)}}})
	}
	amd, arm := build("amd64"), build("arm64")
	both := imagetest.Join(t, map[string]*imagetest.Built{"amd64": amd, "arm64": arm})
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "both", both)
	registry.Push("os", "arm", arm)
	o := accepting(t)
	o.RegistriesConf = registry.Conf(t)
	for _, place := range []string{registry.Host + "/os:both", "oci:" + both.Layout(t, "")} {
		for arch, want := range map[string]*imagetest.Built{"amd64": amd, "arm64": arm} {
			o.Architecture = arch
			img, _, err := readAll(t, place, o)
			if err != nil {
				t.Fatal(err)
			}
			if img.ManifestDigest != want.Manifest || img.Architecture != arch {
				t.Errorf("%s from %s: %+v", arch, place, img)
			}
		}
		o.Architecture = "riscv64"
		_, err := Open(t.Context(), place, o)
		if err == nil || !strings.Contains(err.Error(), "no image for linux/riscv64") || !strings.Contains(err.Error(), "linux/arm64") {
			t.Errorf("no such architecture: %v", err)
		}
	}
	o.Architecture = "amd64"
	if _, err := Open(t.Context(), registry.Host+"/os:arm", o); err == nil || !strings.Contains(err.Error(), "arm64") || exit.HintOf(err) == "" {
		t.Errorf("image for another architecture: %v", err)
	}
}

func TestMirror(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	b := testImage(t, "zstd")
	registry.Push("mirror/os", "v1", b)
	o := accepting(t)
	o.RegistriesConf = writeFile(t, "registries.conf", `
unqualified-search-registries = ["registry.invalid"]
[aliases]
"node" = "registry.invalid/team/os"
[[registry]]
prefix = "registry.invalid/team"
location = "registry.invalid/team"
blocked = false
[[registry.mirror]]
location = "`+registry.Host+`/mirror"
insecure = true
`)
	for _, ref := range []string{"registry.invalid/team/os:v1", "node:v1", "team/os:v1"} {
		img, _, err := readAll(t, ref, o)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if img.Name != "registry.invalid/team/os:v1" || img.ManifestDigest != b.Manifest {
			t.Errorf("%s: %+v", ref, img)
		}
	}
}

func TestPolicy(t *testing.T) {
	ref := "oci:" + testImage(t, "").Layout(t, "v1")
	o := accepting(t)
	for name, policy := range map[string]string{
		"reject":           `{"default":[{"type":"reject"}]}`,
		"reject this":      `{"default":[{"type":"insecureAcceptAnything"}],"transports":{"oci":{"":[{"type":"reject"}]}}}`,
		"signature wanted": `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nonexistent"}]}`,
	} {
		o.PolicyFile = writeFile(t, "policy.json", policy)
		_, err := Open(t.Context(), ref, o)
		if !errors.Is(err, ErrRefused) || exit.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	o.PolicyFile = filepath.Join(t.TempDir(), "missing.json")
	if _, err := Open(t.Context(), ref, o); err == nil {
		t.Error("a policy that was named but does not exist is passed over")
	}
	o.PolicyFile = writeFile(t, "policy.json", `{"default":[{"type":"insecureAcceptAnything"}],"typo":1}`)
	if _, err := Open(t.Context(), ref, o); err == nil {
		t.Error("a policy that can't be read is passed over")
	}
	var log bytes.Buffer
	o.PolicyFile, o.Root, o.Log = "", t.TempDir(), slog.New(slog.NewTextHandler(&log, nil))
	if _, err := Open(t.Context(), ref, o); err != nil {
		t.Errorf("without any policy: %v", err)
	}
	if n := strings.Count(log.String(), "no signature policy"); n != 1 {
		t.Errorf("%d warnings about the missing policy: %s", n, &log)
	}
}
