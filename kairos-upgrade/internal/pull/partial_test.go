package pull

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/composefs"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// openStore opens a store in a directory for writing.
func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	v, err := view.Writable(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Create(t.Context(), v, store.Holder{PID: os.Getpid(), Command: "test", Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// into are options that pull into a store.
func into(s *store.Store) Options {
	return Options{Cache: s, Open: s.OpenObject, Known: func(ctx context.Context) (Known, error) { return s.Contents(ctx) }}
}

// digestOf writes the image of a tree that was pulled.
func digestOf(t testing.TB, root *tree.Inode) fsverity.Digest {
	t.Helper()
	if err := tree.Normalize(root, tree.NormalizeOptions{SELinux: true}); err != nil {
		t.Fatal(err)
	}
	d, err := composefs.Write(io.Discard, root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// noise is content that does not compress, the same for the same seed.
func noise(seed uint64, size int) string {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return string(b)
}

// files is a layer with n files of different sizes, some of them small; edit
// may change their contents.
func files(t testing.TB, n int, edit func(name string, i int) (string, bool)) []byte {
	headers := []tar.Header{dir("usr/"), dir("usr/lib/")}
	bodies := map[string]string{}
	for i := range n {
		h := file(fmt.Sprintf("usr/lib/file-%04d", i))
		h.ModTime = time.Unix(int64(1_700_000_000+i), 0)
		size := 100 + i*37%5000
		if i%10 == 0 {
			size = 1 + i%64
		}
		bodies[h.Name] = noise(uint64(i), size)
		if edit != nil {
			if body, changed := edit(h.Name, i); changed {
				bodies[h.Name] = body
			}
		}
		headers = append(headers, h)
	}
	return imagetest.Tar(t, headers, bodies)
}

func chunked(t testing.TB, layers ...[]byte) *imagetest.Built {
	var img imagetest.Image
	for _, l := range layers {
		img.Layers = append(img.Layers, imagetest.Layer{Tar: l, Compression: "zstd:chunked"})
	}
	return imagetest.Build(t, img)
}

// pullInto pulls a tag into a store and checks that everything is there.
func pullInto(t testing.TB, s *store.Store, registry *imagetest.Registry, tag string, more ...func(*Options)) (fsverity.Digest, Stats) {
	t.Helper()
	o := into(s)
	for _, change := range more {
		change(&o)
	}
	img := open(t, registry.Host+"/os:"+tag, source.Options{RegistriesConf: registry.Conf(t), Spool: s})
	root, stats, err := Tree(t.Context(), img, s, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, n := range root.Walk() {
		if n.HasObject() {
			if _, err := s.CheckObject(n.Digest); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	return digestOf(t, root), stats
}

// whole is the digest of an image that is read whole into nothing.
func whole(t testing.TB, registry *imagetest.Registry, tag string) fsverity.Digest {
	t.Helper()
	img := open(t, registry.Host+"/os:"+tag, source.Options{RegistriesConf: registry.Conf(t)})
	root, _, err := Tree(t.Context(), img, layer.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(t, root)
}

// TestPartial: of a zstd:chunked layer whose files are known, what differs is
// fetched, and the tree is that of the whole layer.
func TestPartial(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	changed := func(name string, i int) (string, bool) { return noise(uint64(i)+7777, 3000), i%100 == 50 }
	v1, v2 := chunked(t, files(t, 1000, nil)), chunked(t, files(t, 1000, changed))
	registry.Push("os", "v1", v1)
	registry.Push("os", "v2", v2)
	registry.Push("os", "gzip", imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: files(t, 1000, changed), Compression: "gzip"}}}))
	want := whole(t, registry, "gzip")

	where := t.TempDir()
	s := openStore(t, where)
	if _, stats := pullInto(t, s, registry, "v1"); stats.Fetched != 1 || stats.Partial != 0 {
		t.Errorf("v1 into an empty store: %+v", stats)
	}
	if err := s.Close(); err != nil { // the index survives
		t.Fatal(err)
	}
	s = openStore(t, where)
	var reused [2]int64
	have, stats := pullInto(t, s, registry, "v2", func(o *Options) { o.Reused = func(bytes, of int64) { reused = [2]int64{bytes, of} } })
	if have != want {
		t.Errorf("image digest %s, want %s", have, want)
	}
	toc := tocLength(t, registry, "v2")
	if stats.Partial != 1 || stats.FilesReused != 990 {
		t.Errorf("v2: %+v", stats)
	}
	if limit := toc + 10*3000*12/10; stats.Bytes > limit {
		t.Errorf("v2: %d bytes fetched, want at most %d, of which %d are the table of contents and tar-split data", stats.Bytes, limit, toc)
	}
	if stats.Bytes <= toc {
		t.Errorf("v2: %d bytes are too few to be true", stats.Bytes)
	}
	if reused != [2]int64{stats.BytesReused, stats.BytesReused + 10*3000} {
		t.Errorf("told that %d bytes are reused, want %d and %d in all", reused, stats.BytesReused, stats.BytesReused+10*3000)
	}
	before := registry.Blobs() // the configuration of the image is one
	if have, stats := pullInto(t, s, registry, "v2"); have != want || stats.Reused != 1 || registry.Blobs() != before+1 {
		t.Errorf("v2 again: %+v", stats)
	}
}

func tocLength(t testing.TB, registry *imagetest.Registry, tag string) (sum int64) {
	img := open(t, registry.Host+"/os:"+tag, source.Options{RegistriesConf: registry.Conf(t)})
	for _, l := range img.Layers {
		if l.TOC == nil {
			t.Fatalf("a layer of %s has no table of contents", tag)
		}
		sum += l.TOC.Length + l.TOC.Split.Length
	}
	return sum
}

// oddLayers is an image with everything that a layer can hold.
func oddLayers(t testing.TB, compression string) *imagetest.Built {
	setuid := file("usr/bin/su")
	setuid.Mode = 0o4755
	setuid.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\xff\xfe\x00", "SCHILY.xattr.user.x": "y"}
	setuid.Uid, setuid.Gid = 0, 1<<31
	setuid.ModTime = time.Unix(1_700_000_000, 999_999_999)
	old := file("usr/old")
	old.ModTime = time.Unix(-5, 500)
	old.Format = tar.FormatPAX
	lower := []tar.Header{
		dir("usr/"), dir("usr/bin/"), setuid, old, file("usr/empty"), file("usr/small"), file("implicit/dirs/here"),
		{Name: "usr/hard", Typeflag: tar.TypeLink, Linkname: "usr/bin/su"},
		{Name: "usr/sym", Typeflag: tar.TypeSymlink, Linkname: "../<b>&ü"},
		{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 260, Mode: 0o660},
		{Name: "run/fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
		file("./usr//dots/./odd"), file("usr/" + strings.Repeat("n", 255)), file("usr/\n\"\\\t name"),
		dir("gone/"), file("gone/x"), dir("opaque/"), file("opaque/x"), file("usr/same-as-su"),
		file("usr/holes"),
	}
	body := noise(1, 200_000)
	bodies := map[string]string{
		"usr/bin/su": body, "usr/same-as-su": body, "usr/old": noise(2, 65), "usr/small": noise(3, 64), "implicit/dirs/here": noise(4, 300),
		"./usr//dots/./odd": noise(5, 1000), "usr/" + strings.Repeat("n", 255): noise(6, 99), "usr/\n\"\\\t name": "x",
		"gone/x": noise(8, 500), "opaque/x": noise(9, 500),
		"usr/holes": noise(10, 5000) + strings.Repeat("\x00", 3_000_000) + noise(11, 5000),
	}
	upper := []tar.Header{file(".wh.gone"), file("opaque/.wh..wh..opq"), file("opaque/y"), {Name: "usr/lower-link", Typeflag: tar.TypeLink, Linkname: "usr/old"}}
	return imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{
		{Compression: compression, Tar: imagetest.Tar(t, lower, bodies)},
		{Compression: compression, Tar: imagetest.Tar(t, upper, map[string]string{"opaque/y": noise(12, 700)})},
	}})
}

// TestSameTree: gzip, zstd and zstd:chunked give one image digest, whatever the
// store has of the files.
func TestSameTree(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	for _, c := range []string{"gzip", "zstd", "zstd:chunked"} {
		registry.Push("os", strings.ReplaceAll(c, ":", "-"), oddLayers(t, c))
	}
	want := whole(t, registry, "gzip")
	if have := whole(t, registry, "zstd"); have != want {
		t.Errorf("zstd: %s, want %s", have, want)
	}
	// Put some of the contents into the store, so that the layers are read in
	// part. Small ones come with a layer only.
	for share := range 5 {
		s := openStore(t, t.TempDir())
		img := open(t, registry.Host+"/os:gzip", source.Options{RegistriesConf: registry.Conf(t)})
		k := 0
		some := picky{s, func() bool { k++; return k%5 <= share }}
		if _, _, err := Tree(t.Context(), img, some, Options{Parallel: 1}); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		have, stats := pullInto(t, s, registry, "zstd-chunked")
		if have != want {
			t.Errorf("zstd:chunked with %d/5: %s, want %s", share+1, have, want)
		}
		if share >= 2 && stats.Partial == 0 {
			t.Errorf("with %d/5 of the files: %+v", share+1, stats)
		}
	}
}

// picky puts some contents into a store.
type picky struct {
	*store.Store
	want func() bool
}

func (p picky) Put(ctx context.Context, r io.Reader, size int64) (fsverity.Digest, error) {
	if p.want() {
		return p.Store.Put(ctx, r, size)
	}
	return layer.Discard.Put(ctx, r, size)
}

// TestNotUTF8: a table of contents can't hold every name. Such a layer is read
// whole.
func TestNotUTF8(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	named := func(name string) []byte {
		return imagetest.Tar(t, []tar.Header{dir("usr/"), file("usr/a"), file(name)}, map[string]string{"usr/a": noise(1, 100_000), name: noise(2, 100)})
	}
	registry.Push("os", "v1", chunked(t, named("usr/b")))
	registry.Push("os", "v2", chunked(t, named("usr/\xff\xfe")))
	s := openStore(t, t.TempDir())
	pullInto(t, s, registry, "v1")
	have, stats := pullInto(t, s, registry, "v2")
	if want := whole(t, registry, "v2"); have != want || stats.Partial != 0 {
		t.Errorf("%s, want %s: %+v", have, want, stats)
	}
}

// TestKilled: what a staging had fetched before it was killed is found again
// by the next one, although it left no index.
func TestKilled(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	registry.Push("os", "v1", chunked(t, files(t, 300, nil)))
	where := t.TempDir()
	s := openStore(t, where)
	pullInto(t, s, registry, "v1")
	s.Close()
	for _, lost := range []func() error{
		func() error { return os.Remove(where + "/contents") },
		func() error { return os.WriteFile(where+"/contents", []byte("damaged"), 0o644) },
		func() error {
			data, err := os.ReadFile(where + "/contents")
			if err == nil {
				data[len(data)/2] ^= 1
				err = os.WriteFile(where+"/contents", data, 0o644)
			}
			return err
		},
	} {
		if err := lost(); err != nil {
			t.Fatal(err)
		}
		layers, err := os.ReadDir(where + "/layers")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			os.Remove(where + "/layers/" + l.Name())
		}
		s := openStore(t, where)
		_, stats := pullInto(t, s, registry, "v1")
		// Small contents went with the layer's record.
		if stats.Partial != 1 || stats.FilesReused != 270 {
			t.Errorf("%+v", stats)
		}
		s.Close()
	}
}

// TestTwoFaces: whatever a table of contents says, one manifest is one image:
// that of its tar stream.
func TestTwoFaces(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	const reviewed, other = "usr/lib/file-0077", "usr/lib/file-0078"
	data := files(t, 200, func(name string, i int) (string, bool) {
		return noise(uint64(i)+999, 700), name == reviewed || name == other
	})
	registry.Push("os", "v1", chunked(t, files(t, 200, func(_ string, i int) (string, bool) {
		return noise(uint64(i)+999, 700), i == 77 || i == 78 || i == 5
	})))
	var theirs map[string]any
	twin := imagetest.Layer{Tar: data, Compression: "zstd:chunked", Table: func(e map[string]any) {
		if e["name"] == other {
			theirs = e
		}
	}}
	imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{twin}})
	for what, lie := range map[string]func(e map[string]any){
		"content": func(e map[string]any) {
			for _, k := range []string{"digest", "size", "offset", "endOffset"} {
				e[k] = theirs[k]
			}
		},
		"mode":  func(e map[string]any) { e["mode"] = 0o4755 },
		"owner": func(e map[string]any) { e["uid"] = 1000 },
		"xattr": func(e map[string]any) { e["xattrs"] = map[string]string{"security.capability": "AQAAAv/+AA=="} },
		"type":  func(e map[string]any) { e["type"], e["linkName"], e["size"] = "symlink", "/tmp/x", 0 },
		"name":  func(e map[string]any) { e["name"] = "usr/lib/another" },
	} {
		for form, annotations := range map[string]func(map[string]string) map[string]string{"": nil, " without tar-split data": withoutSplit} {
			t.Run(what+form, func(t *testing.T) {
				twoFaced := imagetest.Layer{Tar: data, Compression: "zstd:chunked", Annotations: annotations, Table: func(e map[string]any) {
					if e["name"] == reviewed {
						lie(e)
					}
				}}
				registry.Push("os", "v2", imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{twoFaced}}))
				want := whole(t, registry, "v2")
				s := openStore(t, t.TempDir())
				pullInto(t, s, registry, "v1")
				if have, stats := pullInto(t, s, registry, "v2"); have != want {
					t.Errorf("a store that had v1 comes to %s, an empty one to %s: %+v", have, want, stats)
				}
				if have, stats := pullInto(t, s, registry, "v2"); have != want || stats.Reused != 1 {
					t.Errorf("again: %s, want %s: %+v", have, want, stats)
				}
			})
		}
	}
}

// withoutSplit is what programs wrote that knew no tar-split data.
func withoutSplit(annotations map[string]string) map[string]string {
	annotations = maps.Clone(annotations)
	delete(annotations, imagetest.SplitPosition)
	return annotations
}

// TestWithoutSplit: a layer without tar-split data is fetched in part as well, and is
// the same.
func TestWithoutSplit(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	push := func(tag string, changed func(string, int) (string, bool)) {
		l := imagetest.Layer{Tar: files(t, 500, changed), Compression: "zstd:chunked", Annotations: withoutSplit}
		registry.Push("os", tag, imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{l}}))
	}
	push("v1", nil)
	push("v2", func(_ string, i int) (string, bool) { return noise(uint64(i)+7777, 9000), i%50 == 25 })
	s := openStore(t, t.TempDir())
	pullInto(t, s, registry, "v1")
	have, stats := pullInto(t, s, registry, "v2")
	if want := whole(t, registry, "v2"); have != want || stats.Partial != 1 {
		t.Errorf("%s, want %s: %+v", have, want, stats)
	}
	img := open(t, registry.Host+"/os:v2", source.Options{RegistriesConf: registry.Conf(t)})
	if all := img.Layers[0].Size; stats.Bytes > all/3 {
		t.Errorf("%d of %d bytes were fetched for ten of 500 files", stats.Bytes, all)
	}
}

// TestNoPoison: a layer whose DiffID is that of another one is refused, in part
// as well as whole, and leaves no record that others would believe.
func TestNoPoison(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	good, evil := files(t, 200, nil), files(t, 200, func(_ string, i int) (string, bool) { return noise(uint64(i)+999, 500), i == 77 })
	registry.Push("os", "base", chunked(t, files(t, 200, func(_ string, i int) (string, bool) { return "", i == 5 })))
	lying := imagetest.Image{Layers: []imagetest.Layer{{Tar: evil, Compression: "zstd:chunked", DiffID: chunked(t, good).DiffIDs[0]}}}
	registry.Push("os", "evil", imagetest.Build(t, lying))
	registry.Push("os", "good", chunked(t, good))
	s := openStore(t, t.TempDir())
	pullInto(t, s, registry, "base")
	img := open(t, registry.Host+"/os:evil", source.Options{RegistriesConf: registry.Conf(t), Spool: s})
	if _, _, err := Tree(t.Context(), img, s, into(s)); !errors.Is(err, source.ErrDigest) {
		t.Errorf("another layer than the DiffID names: %v", err)
	}
	have, stats := pullInto(t, s, registry, "good")
	if want := whole(t, registry, "good"); have != want || stats.Partial != 1 {
		t.Errorf("digest %s, want %s: %+v", have, want, stats)
	}
}

// TestPartialFaults: whatever is wrong with the parts, the image is right or
// there is an error, and the store is clean.
func TestPartialFaults(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	changed := func(name string, i int) (string, bool) { return noise(uint64(i)+7777, 9000), i%50 == 25 }
	registry.Push("os", "v1", chunked(t, files(t, 500, nil)))
	registry.Push("os", "v2", chunked(t, files(t, 500, changed)))
	want := whole(t, registry, "v2")
	ranged := func(r *http.Request) bool { return r.Header.Get("Range") != "" }
	probe := func(r *http.Request, blob []byte) bool {
		return strings.HasPrefix(r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", len(blob)))
	}
	faults := map[string]struct {
		fault   func(w http.ResponseWriter, r *http.Request, blob []byte) bool
		partial int
	}{
		"ranges ignored": {func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			r.Header.Del("Range")
			return false
		}, 0},
		"one range only": {func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if strings.Contains(r.Header.Get("Range"), ",") {
				r.Header.Del("Range")
			}
			return false
		}, 1},
		"bad request": {func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if ranged(r) {
				http.Error(w, "no", http.StatusBadRequest)
			}
			return ranged(r)
		}, 0},
		"other bytes": {func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if !ranged(r) || probe(r, blob) {
				return false
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(noise(9, len(blob))))
			return true
		}, 0},
		"a part less": {func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if all := r.Header.Get("Range"); strings.Contains(all, ",") && !probe(r, blob) {
				r.Header.Set("Range", all[:strings.LastIndexByte(all, ',')])
			}
			return false
		}, 0},
		"a part that is longer": {func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			all := r.Header.Get("Range")
			var from, to int
			if rest := strings.IndexByte(all, ','); rest > 0 && !probe(r, blob) {
				if _, err := fmt.Sscanf(all, "bytes=%d-%d,", &from, &to); err == nil {
					r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d%s", from, to+1, all[rest:]))
				}
			}
			return false
		}, 0},
		"500 for parts": {func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if ranged(r) && !probe(r, blob) {
				http.Error(w, "oops", 500)
				return true
			}
			return false
		}, 0},
	}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		t.Run(name, func(t *testing.T) {
			registry.SetFault(nil)
			s := openStore(t, t.TempDir())
			pullInto(t, s, registry, "v1")
			registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
				return blob != nil && strings.Contains(r.URL.Path, "/blobs/") && faults[name].fault(w, r, blob)
			})
			have, stats := pullInto(t, s, registry, "v2")
			if have != want || stats.Partial != faults[name].partial {
				t.Errorf("digest %s, want %s; %+v", have, want, stats)
			}
		})
	}
	registry.SetFault(nil)
}

// TestTables: tables that are not what the manifest says, or no tables.
func TestTables(t *testing.T) {
	registry := imagetest.NewRegistry(t)
	data := files(t, 200, nil)
	registry.Push("os", "v1", chunked(t, files(t, 200, func(_ string, i int) (string, bool) { return "x", i == 5 })))
	const checksum, position, split = imagetest.TableDigest, imagetest.TablePosition, imagetest.SplitPosition
	var offset, length, plain int64
	_, right := imagetest.Chunked(t, data)
	if _, err := fmt.Sscanf(right[position], "%d:%d:%d:1", &offset, &length, &plain); err != nil {
		t.Fatal(err)
	}
	for i, edit := range []map[string]string{
		{checksum: fmt.Sprintf("sha256:%x", sha256.Sum256(nil))},
		{position: fmt.Sprintf("%d:%d:%d:1", offset-1, length, plain)},
		{position: fmt.Sprintf("%d:%d:%d:1", offset, length-1, plain)},
		{position: fmt.Sprintf("%d:%d:%d:1", offset, length, plain-1)},
		{position: fmt.Sprintf("%d:%d:%d:1", offset, length, plain+1)},
		{position: fmt.Sprintf("%d:%d:%d:2", offset, length, plain)},
		{position: fmt.Sprintf("%d:%d:%d:1", int64(1)<<62, length, plain)},
		{position: "x:y"},
		{checksum: "sha256:../../x"},
		{split: ""},
		{split: fmt.Sprintf("%d:%d:%d", offset, length, plain)}, // the table itself
		{split: fmt.Sprintf("%d:%d:%d", offset+length, 8, plain)},
		{split: fmt.Sprintf("%d:%d:%d", int64(1)<<62, length, plain)},
	} {
		l := imagetest.Layer{Tar: data, Compression: "zstd:chunked", Annotations: func(a map[string]string) map[string]string {
			a = maps.Clone(a)
			maps.Copy(a, edit)
			return a
		}}
		registry.Push("os", "v2", imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{l}}))
		s := openStore(t, t.TempDir())
		pullInto(t, s, registry, "v1")
		if have, stats := pullInto(t, s, registry, "v2"); have != whole(t, registry, "v2") || stats.Partial != 0 {
			t.Errorf("%d: %+v", i, stats)
		}
	}
}

// BenchmarkPartial: of a layer with 100 MB in 2,000 files one in a hundred is
// another one. The peer in the same run is the layer read whole.
func BenchmarkPartial(b *testing.B) {
	registry := imagetest.NewRegistry(b)
	layer := func(tag string, changed func(i int) bool) {
		var headers []tar.Header
		bodies := map[string]string{}
		for i := range 2000 {
			h := file(fmt.Sprintf("usr/lib/file-%04d", i))
			seed := uint64(i)
			if changed(i) {
				seed += 5000
			}
			bodies[h.Name] = noise(seed, 25_000) + strings.Repeat("text that compresses ", 1250)
			headers = append(headers, h)
		}
		registry.Push("os", tag, chunked(b, imagetest.Tar(b, headers, bodies)))
	}
	layer("v1", func(int) bool { return false })
	layer("v2", func(i int) bool { return i%100 == 50 })
	for name, first := range map[string]string{"part": "v1", "whole": ""} {
		b.Run(name, func(b *testing.B) {
			var fetched int64
			var cpu time.Duration // which a busy machine does not change as much
			for range b.N {
				b.StopTimer()
				s := openStore(b, b.TempDir())
				if first != "" {
					pullInto(b, s, registry, first)
				}
				b.StartTimer()
				before := processorTime(b)
				img := open(b, registry.Host+"/os:v2", source.Options{RegistriesConf: registry.Conf(b), Spool: s})
				_, stats, err := Tree(b.Context(), img, s, into(s))
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Commit(b.Context()); err != nil {
					b.Fatal(err)
				}
				fetched = stats.Bytes
				cpu += processorTime(b) - before
			}
			b.ReportMetric(float64(fetched), "B-fetched")
			b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
