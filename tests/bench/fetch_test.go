package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/workspace"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// staged is what a staging has cost and done.
type staged struct {
	measuretest.Usage
	requests []registry.Request
	Image    string `json:"image_digest"`
	Objects  int    `json:"objects_added"`
	Bytes    int64  `json:"bytes_added"`
}

func (s staged) fetched() float64 { return float64(registry.Fetched(s.requests)) }

// layers counts the requests for layers, or for parts of them.
func (s staged) layers() (n int) {
	for _, r := range s.requests {
		if r.Blob() && r.Bytes > 16<<10 { // the config is smaller
			n++
		}
	}
	return n
}

// stage stages an image of a registry in a store and an ESP, as a node does it.
func stage(t *testing.T, r *registry.Registry, store, esp, name string, status int) staged {
	t.Helper()
	mark := r.Mark()
	cmd := exec.CommandContext(t.Context(), filepath.Join(workspace.Top(), "build/bin/kairos-upgrade"),
		"stage", "--insecure", "--quiet", "--json", "--store", store, "--esp", esp, r.LocalHost()+"/"+name)
	s := staged{Usage: measure(t, cmd, status), requests: r.Since(mark)}
	if status == 0 {
		if err := json.Unmarshal(s.Stdout, &s); err != nil {
			t.Fatalf("stage --json: %v\n%s", err, s.Stdout)
		}
	}
	return s
}

// bless marks all deployments good, so that the next staging keeps them.
func bless(t *testing.T, esp string) {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(esp, "loader/entries/*+3.conf"))
	must(t, err)
	for _, entry := range entries {
		must(t, os.Rename(entry, strings.Replace(entry, "+3", "", 1)))
	}
}

// TestBenchFetch upgrades a node from the release to each of the other images.
func TestBenchFetch(t *testing.T) {
	d := theDebian(t)
	all := d.contents[release].since(t, nil)
	report(Figure{What: "Debian release, all files", Value: all.raw, Unit: "B"})
	report(Figure{What: "Debian release, all files, each compressed", Value: all.compressed, Unit: "B"})
	for _, c := range []struct{ what, compression, to string }{
		{"one package, zstd:chunked", chunked, single},
		{"one package, gzip", gzip, single},
		{"all layers rebuilt, zstd:chunked", chunked, rebuilt},
		{"months of updates, zstd:chunked", chunked, updated},
	} {
		t.Run(c.what, func(t *testing.T) { d.upgrade(t, c.what, c.compression, c.to) })
	}
}

// upgrade measures one upgrade from the release, at the registry and at the
// store's block device.
func (d *debian) upgrade(t *testing.T, what, compression, to string) {
	changed := d.contents[to].since(t, d.contents[release])
	if changed.raw == 0 {
		t.Skipf("%s has nothing that the release has not: Debian has no updates for it today", to)
	}
	store, esp := newDisk(t, 4<<30), t.TempDir()
	stage(t, d.registry, store.dir, esp, repository(compression)+":"+release, 0)
	bless(t, esp)
	before := store.written()
	s := stage(t, d.registry, store.dir, esp, repository(compression)+":"+to, 0)
	written := store.written() - before

	limit := d.changedLayers(t, repository(compression), to)
	report(Figure{What: what + ": changed files", Value: changed.raw, Unit: "B"})
	report(Figure{What: what + ": changed files, compressed", Value: changed.compressed, Unit: "B"})
	if compression == chunked {
		report(Figure{What: what + ": tables of contents", Value: limit.tables, Unit: "B"})
		report(Figure{What: what + ": fetched", Value: s.fetched(), Unit: "B", Limit: 1.2*changed.compressed + limit.tables + limit.rest})
	} else {
		report(Figure{What: what + ": fetched", Value: s.fetched(), Unit: "B", Limit: limit.layers + limit.rest})
	}
	report(Figure{What: what + ": time", Value: s.Seconds, Unit: "s"})
	report(Figure{What: what + ": time of processors", Value: s.CPU, Unit: "s"})
	report(Figure{What: what + ": peak resident memory", Value: s.Memory, Unit: "B", Limit: 128 << 20})
	image, err := os.Stat(filepath.Join(store.dir, "images", strings.TrimPrefix(s.Image, "sha256:")))
	must(t, err)
	report(Figure{What: what + ": written to the store's device", Value: written, Unit: "B",
		Limit: 1.1*changed.raw + float64(image.Size()) + 16<<20})
}

// transfer is what a node has to fetch of an image when it has the release, in
// bytes.
type transfer struct {
	layers float64 // the layers that the release has not
	tables float64 // their tables of contents, if they are zstd:chunked
	rest   float64 // manifest, config, and what the registry says for a greeting
}

// tablePosition says where a zstd:chunked layer has its table of contents:
// offset:length:uncompressed length:type.
const tablePosition = "io.github.containers.zstd-chunked.manifest-position"

func (d *debian) changedLayers(t *testing.T, repository, to string) (all transfer) {
	t.Helper()
	had := make(map[string]bool)
	old, _ := manifestOf(t, d.registry, repository, release)
	for _, layer := range old.Layers {
		had[layer.Digest.String()] = true
	}
	manifest, size := manifestOf(t, d.registry, repository, to)
	const greeting = 64
	all.rest = greeting + float64(size) + float64(manifest.Config.Size)
	for _, layer := range manifest.Layers {
		if had[layer.Digest.String()] {
			continue
		}
		all.layers += float64(layer.Size)
		if position, ok := layer.Annotations[tablePosition]; ok {
			var offset, length float64
			_, err := fmt.Sscanf(position, "%g:%g", &offset, &length)
			must(t, err)
			all.tables += length
		}
	}
	return all
}

// manifestOf fetches a manifest, and tells its size in bytes.
func manifestOf(t *testing.T, r *registry.Registry, repository, tag string) (v1.Manifest, int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.LocalHost()+"/v2/"+repository+"/manifests/"+tag, nil)
	must(t, err)
	request.Header.Set("Accept", v1.MediaTypeImageManifest)
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	must(t, err)
	var manifest v1.Manifest
	must(t, json.Unmarshal(data, &manifest))
	if len(manifest.Layers) == 0 {
		t.Fatalf("manifest of %s:%s: %s", repository, tag, data)
	}
	return manifest, len(data)
}
