package cmd

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// noise is content that does not compress, the same for the same seed.
func noise(seed, size int) string {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return string(b)
}

// osLayer is a root file system with count files of osFile bytes in which those
// that changed says are others.
func osLayer(t testing.TB, count int, changed func(i int) bool) []byte {
	t.Helper()
	var headers []tar.Header
	bodies := map[string]string{}
	add := func(name, body string) {
		headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1_700_000_000, 0)})
		bodies[name] = body
	}
	add("usr/lib/modules/6.1.2/vmlinuz", noise(1<<20, 100_000))
	add("usr/lib/modules/6.1.2/initramfs.img", noise(1<<20+1, 300_000))
	for i := range count {
		seed := i
		if changed != nil && changed(i) {
			seed += 1 << 21
		}
		add(fmt.Sprintf("usr/share/%04d", i), noise(seed, osFile))
	}
	return imagetest.Tar(t, headers, bodies)
}

// osFile is the size of a file of osLayer, in bytes.
const osFile = 20_000

// osRegistry serves v1, and v2 in which every tenth file differs, as
// zstd:chunked; and v2 as gzip.
func osRegistry(t *testing.T, count int) *imagetest.Registry {
	registry := imagetest.NewRegistry(t)
	tenth := func(i int) bool { return i%10 == 5 }
	for tag, l := range map[string]imagetest.Layer{
		"v1":      {Tar: osLayer(t, count, nil), Compression: "zstd:chunked"},
		"v2":      {Tar: osLayer(t, count, tenth), Compression: "zstd:chunked"},
		"v2-gzip": {Tar: osLayer(t, count, tenth), Compression: "gzip"},
	} {
		registry.Push("os", tag, imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{l}}))
	}
	return registry
}

// stage stages an image of a registry and returns its result.
func (n node) stage(ref string, args ...string) (result map[string]any) {
	n.t.Helper()
	out := n.want(0, "stage", append(append([]string{"--insecure", "--json"}, args...), ref)...)
	if err := json.Unmarshal([]byte(out[strings.IndexByte(out, '{'):]), &result); err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
	return result
}

// TestStageChunked: what is staged from a table of contents is the same image,
// and what was here already is told.
func TestStageChunked(t *testing.T) {
	const count, size = 200, osFile
	registry := osRegistry(t, count)
	n := newNode(t)
	n.stage(registry.Host + "/os:v1")
	n.bless(1)
	have := n.stage(registry.Host + "/os:v2")
	other := newNode(t)
	want := other.stage(registry.Host + "/os:v2-gzip")
	if have["image_digest"] != want["image_digest"] {
		t.Errorf("image digest %v, want %v", have["image_digest"], want["image_digest"])
	}
	n.want(0, "verify")
	fetched := have["bytes_fetched"].(float64)
	// The table of contents, of 200 digests, is among them.
	if limit := 1.2*count/10*size + 40_000; fetched > limit || fetched < count/10*size+200*32 {
		t.Errorf("%v bytes fetched, want at most %v", fetched, limit)
	}
	for key, want := range map[string]float64{
		"layers_fetched": 1, "layers_partial": 1, "layers_reused": 0,
		"files_reused": count*9/10 + 2, "bytes_reused": count*9/10*size + 400_000, "objects_added": count / 10,
	} {
		if have[key] != want {
			t.Errorf("%s is %v, want %v", key, have[key], want)
		}
	}
	again := n.stage(registry.Host+"/os:v2", "--force")
	if again["layers_reused"] != 1.0 || again["requests"] != 0.0 {
		t.Errorf("again: %v", again)
	}

	// A store that was made of this one knows as much.
	copied := newNode(t)
	copied.want(0, "stage", "store:"+n.store)
	copied.bless(1)
	if back := copied.stage(registry.Host + "/os:v1"); back["files_reused"] != have["files_reused"] {
		t.Errorf("from a copied store: %v", back)
	}
	copied.want(0, "verify")
}

// TestKilledChunked: SIGKILL at any moment of a staging in part, while the
// registry is slow: the next one goes on, with the same result.
func TestKilledChunked(t *testing.T) {
	manyProcesses(t)
	registry := osRegistry(t, 300)
	ideal := newNode(t)
	ideal.stage(registry.Host + "/os:v1")
	ideal.bless(1)
	begin := time.Now()
	want := ideal.stage(registry.Host + "/os:v2")
	whole := time.Since(begin)
	ideal.want(0, "gc")
	for i := range *kills / 2 {
		n := newNode(t)
		n.stage(registry.Host + "/os:v1")
		n.bless(1)
		at := time.Now().Add(time.Duration(rand.Int64N(int64(whole))))
		if kill(t, n.command("stage", "--insecure", registry.Host+"/os:v2"), func() bool { return time.Now().After(at) }) {
			n.want(0, "verify")
		}
		if code, out := n.run("stage", "--insecure", registry.Host+"/os:v2"); code != 0 && code != 3 {
			t.Fatalf("kill %d: staging again: exit status %d:\n%s", i, code, out)
		}
		n.want(0, "gc")
		n.want(0, "verify")
		if status := n.want(0, "status", "--json"); !strings.Contains(status, want["image_digest"].(string)) {
			t.Errorf("kill %d: another image:\n%s", i, status)
		}
		for _, part := range []string{"objects", "images"} {
			have, want := files(t, filepath.Join(n.store, part)), files(t, filepath.Join(ideal.store, part))
			if have != want {
				t.Fatalf("kill %d: %s differ from an undisturbed staging:\n%s\nwant:\n%s", i, part, have, want)
			}
		}
	}
}

// TestResumeStaging: a large layer without table of contents breaks off for
// good in the middle; the next staging fetches the rest.
func TestResumeStaging(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: osLayer(t, 600, nil), Compression: "gzip"}}})
	registry.Push("os", "v1", b)
	size := len(b.Blobs[b.Layers[0]])
	n := newNode(t)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		switch {
		case !strings.HasSuffix(r.URL.Path, b.Layers[0].String()), strings.HasPrefix(r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", size)):
			return false
		case r.Header.Get("Range") != "":
			http.Error(w, "gone", http.StatusNotFound)
		default:
			http.ServeContent(imagetest.Cut(w, size*2/3), r, "", time.Time{}, bytes.NewReader(blob))
		}
		return true
	})
	n.want(1, "stage", "--insecure", registry.Host+"/os:v1")
	registry.SetFault(nil)
	n.want(0, "gc") // which leaves it
	fetched := n.stage(registry.Host + "/os:v1")["bytes_fetched"].(float64)
	if rest := float64(size - size*2/3); fetched < rest || fetched > rest+1<<20 {
		t.Errorf("%v bytes fetched of %d, want the last %v", fetched, size, rest)
	}
	if left := files(t, filepath.Join(n.store, "partial")); left != "" {
		t.Errorf("left:\n%s", left)
	}
	n.want(0, "verify")
}

// TestExactSpace: what a layer with a table of contents needs is known to the
// block.
func TestExactSpace(t *testing.T) {
	const count, size = 200, osFile
	registry := osRegistry(t, count)
	n := newNode(t)
	small(t, n.store, "tmpfs", 64<<20)
	n.stage(registry.Host + "/os:v1")
	n.bless(1)
	plan := n.want(0, "stage", "--insecure", "--dry-run", "--json", registry.Host+"/os:v2")
	found := regexp.MustCompile(`"bytes_estimated":(\d+)`).FindStringSubmatch(plan)
	if found == nil {
		t.Fatalf("plan: %s", plan)
	}
	need, _ := strconv.ParseInt(found[1], 10, 64)
	if exact := int64(count / 10 * (20480 + size/128 + 512)); need != exact {
		t.Errorf("%d bytes needed, want %d", need, exact)
	}
	before := files(t, n.store, n.esp)
	fill(t, n.store, need-4096)
	out := n.want(5, "stage", "--insecure", registry.Host+"/os:v2")
	if !strings.Contains(out, "not enough space on store") || !strings.Contains(out, "hint: ") {
		t.Errorf("message:\n%s", out)
	}
	if now := files(t, n.store, n.esp); now != before {
		t.Errorf("the store changed:\n%s\nwas:\n%s", now, before)
	}
	fill(t, n.store, need+512<<10) // and the image, records, boot entries
	n.stage(registry.Host + "/os:v2")
	n.want(0, "verify")
}

// TestTwoFaces: a node that had an older image and one that had none come to the
// same image, which `digest` prints, although a table of contents says something
// else.
func TestTwoFaces(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	push := func(tag string, changed func(i int) bool, lie func(map[string]any)) {
		l := imagetest.Layer{Tar: osLayer(t, 50, changed), Compression: "zstd:chunked", Table: lie}
		registry.Push("os", tag, imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{l}}))
	}
	push("v1", nil, nil)
	push("v2", func(i int) bool { return i == 5 }, func(e map[string]any) {
		if e["name"] == "usr/share/0007" {
			e["mode"] = 0o4755
		}
	})
	had, fresh := newNode(t), newNode(t)
	had.stage(registry.Host + "/os:v1")
	had.bless(1)
	ref := registry.Host + "/os:v2"
	one, two := had.stage(ref), fresh.stage(ref)
	if one["layers_partial"] != 1.0 || two["layers_partial"] != 0.0 {
		t.Errorf("in part: %v and %v", one["layers_partial"], two["layers_partial"])
	}
	if one["image_digest"] != two["image_digest"] || one["manifest_digest"] != two["manifest_digest"] {
		t.Errorf("%v is %v on one node, %v on the other", one["manifest_digest"], one["image_digest"], two["image_digest"])
	}
	if out, err := exec.Command("kairos-upgrade", "digest", "--insecure", ref).Output(); err != nil || strings.TrimSpace(string(out)) != one["image_digest"] {
		t.Errorf("digest says %s (%v), the nodes have %v", out, err, one["image_digest"])
	}
}
