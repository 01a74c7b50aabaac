package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/klauspost/compress/zstd"
)

// known is what a store has, in memory.
type known struct {
	objects map[[sha256.Size]byte]fsverity.Digest
	inline  map[[sha256.Size]byte]string
}

func (k known) Object(sum [sha256.Size]byte, _ int64) (fsverity.Digest, bool) {
	d, ok := k.objects[sum]
	return d, ok
}

func (k known) Inline(sum [sha256.Size]byte) (string, bool) {
	content, ok := k.inline[sum]
	return content, ok
}

// tableOf returns the table of contents of a layer as others make it, and the
// blob that it is in.
func tableOf(t testing.TB, archive []byte) (table, blob []byte, end int64) {
	t.Helper()
	blob, annotations := imagetest.Chunked(t, archive)
	position := strings.Split(annotations["io.github.containers.zstd-chunked.manifest-position"], ":")
	var n [2]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(position[i], 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return plain(t, blob[n[0]:n[0]+n[1]]), blob, n[0]
}

func plain(t testing.TB, compressed []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// complete gives a layer what is missing of it.
func complete(t testing.TB, p *Partial, blob []byte) *Layer {
	t.Helper()
	for _, m := range p.Missing {
		content := plain(t, blob[m.Offset:m.Offset+m.Length])
		if int64(len(content)) != m.Size || sha256.Sum256(content) != m.Sum {
			t.Errorf("%d bytes at %d are not what the table says", m.Length, m.Offset)
		}
		if m.Size <= tree.InlineMax {
			m.Inline(string(content))
		} else {
			m.Object(fsverity.Bytes(content))
		}
	}
	return p.Layer
}

// TestFromTOC: the layer that a table of contents gives is that of its tar
// stream, to the last byte of its record.
func TestFromTOC(t *testing.T) {
	pax := entry("pax")
	pax.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
	odd := imagetest.Tar(t, []tar.Header{entry("./"), entry("d/"), entry("d/f"), entry("d/l -> f"), entry("d/h => d/f"), entry("below => x/y"),
		entry(".wh.gone"), entry("d/.wh..wh..opq"), entry("i/j/k"), entry(".wh..wh.plnk/1"), pax, {Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		map[string]string{"d/f": strings.Repeat("content ", 20), "pax": "inline"})
	for i, archive := range [][]byte{odd, imagetest.Tar(t, nil, nil)} {
		table, blob, end := tableOf(t, archive)
		want, err := Import(t.Context(), bytes.NewReader(archive), Discard, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := FromTOC(t.Context(), bytes.NewReader(table), known{}, end, true, Limits{})
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		l := complete(t, p, blob)
		if !bytes.Equal(encoded(t, l), encoded(t, want)) {
			t.Errorf("%d: the record is another one", i)
		}
		entries, metadata := l.Cost()
		if e, m := want.Cost(); e != entries || m != metadata {
			t.Errorf("%d: it costs %d, %d; want %d, %d", i, entries, metadata, e, m)
		}
	}
}

// TestKnownContents: what is known is not missing, and one content is missing
// once.
func TestKnownContents(t *testing.T) {
	bodies := map[string]string{"a": strings.Repeat("a", 5000), "b": strings.Repeat("b", 5000), "c": strings.Repeat("b", 5000), "d": "d", "e": "e", "f": ""}
	var headers []tar.Header
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		headers = append(headers, entry(name))
	}
	table, blob, end := tableOf(t, imagetest.Tar(t, headers, bodies))
	k := known{
		objects: map[[sha256.Size]byte]fsverity.Digest{sha256.Sum256([]byte(bodies["a"])): fsverity.Bytes([]byte(bodies["a"]))},
		inline:  map[[sha256.Size]byte]string{sha256.Sum256([]byte("d")): "d"},
	}
	p, err := FromTOC(t.Context(), bytes.NewReader(table), k, end, true, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Files != 5 || p.Reused != 2 || p.ReusedBytes != 5001 || len(p.Missing) != 2 {
		t.Errorf("%+v", p)
	}
	l := complete(t, p, blob)
	for name, body := range bodies {
		n := l.root.Lookup(name)
		if n == nil || n.Size != int64(len(body)) || n.HasObject() && n.Digest != fsverity.Bytes([]byte(body)) || !n.HasObject() && n.Content != body {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

// tocSeeds are tables of contents, good and bad ones.
func tocSeeds(t testing.TB) (seeds []string) {
	table, _, _ := tableOf(t, imagetest.Tar(t, []tar.Header{entry("./"), entry("d/"), entry("d/f"), entry("d/l -> f"), entry("d/h => d/f"), entry(".wh.x")},
		map[string]string{"d/f": "content of f"}))
	digest := "sha256:" + strings.Repeat("ab", 32)
	file := func(more string) string {
		return `{"version":1,"entries":[{"type":"reg","name":"f","size":100,"digest":"` + digest + `",` + more + `}]}`
	}
	return append(seeds, string(table),
		`{"version":1,"entries":[]}`,
		file(`"offset":4,"endOffset":40`),
		file(`"offset":40,"endOffset":4`),
		file(`"offset":-4,"endOffset":40`),
		file(`"offset":4,"endOffset":9223372036854775807`),
		file(`"offset":4,"endOffset":40,"chunkType":"zeros"`),
		`{"version":1,"entries":[{"type":"reg","name":"f","size":-1}]}`,
		`{"version":1,"entries":[{"type":"reg","name":"../f"}]}`,
		`{"version":1,"entries":[{"type":"chunk","name":"f"}]}`,
		`{"version":1,"entries":[{"type":"dir","name":"d","xattrs":{"user.x":"eA=="},"modtime":"1970-01-01T00:00:00Z"}]}`,
	)
}

// TestBadTOC: what a table of contents must not say.
func TestBadTOC(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	reg := func(name string, size, offset, end int64, digest string) string {
		return fmt.Sprintf(`{"type":"reg","name":%q,"size":%d,"digest":%q,"offset":%d,"endOffset":%d}`, name, size, digest, offset, end)
	}
	table := func(entries ...string) string { return `{"version":1,"entries":[` + strings.Join(entries, ",") + `]}` }
	for name, test := range map[string]struct {
		table string
		want  error
	}{
		"nothing":             {``, ErrTOC},
		"no JSON":             {`x`, ErrTOC},
		"no object":           {`[]`, ErrTOC},
		"cut":                 {table(reg("f", 100, 4, 40, digest))[:80], ErrTOC},
		"more":                {table() + "{}", ErrTOC},
		"version 2":           {`{"version":2,"entries":[]}`, ErrTOC},
		"no version":          {`{"entries":[]}`, ErrTOC},
		"no entries":          {`{"version":1}`, ErrTOC},
		"entries twice":       {`{"version":1,"entries":[],"entries":[]}`, ErrTOC},
		"unknown key":         {`{"version":1,"entries":[],"x":1}`, ErrTOC},
		"unknown key of file": {table(`{"type":"dir","name":"d","x":1}`), ErrTOC},
		"unknown type":        {table(`{"type":"socket","name":"d"}`), ErrTOC},
		"no digest":           {table(reg("f", 100, 4, 40, "")), ErrTOC},
		"short digest":        {table(reg("f", 100, 4, 40, "sha256:abcd")), ErrTOC},
		"behind the end":      {table(reg("f", 100, 4, 1001, digest)), ErrTOC},
		"nowhere":             {table(reg("f", 100, 4, 4, digest)), ErrTOC},
		"before the start":    {table(reg("f", 100, -4, 4, digest)), ErrTOC},
		"overlap":             {table(reg("f", 100, 4, 40, digest), reg("g", 100, 39, 80, "sha256:"+strings.Repeat("cd", 32))), ErrTOC},
		"not UTF-8":           {table(`{"type":"dir","name":"\ufffd"}`), ErrTOC},
		"no base64":           {table(`{"type":"dir","name":"d","xattrs":{"user.x":"%"}}`), ErrTOC},
		"dot dot":             {table(reg("a/../../f", 100, 4, 40, digest)), ErrLayer},
		"negative size":       {table(reg("f", -1, 4, 40, digest)), ErrLayer},
		"link to nothing":     {table(`{"type":"hardlink","name":"l","linkName":""}`), ErrLayer},
		"device":              {table(`{"type":"char","name":"d","devMajor":99999}`), ErrLayer},
		"too large":           {table(reg("f", 1<<40, 4, 40, digest)), ErrLimit},
		"too many":            {table(strings.TrimSuffix(strings.Repeat(`{"type":"dir","name":"d"},`, small.Entries+1), ",")), ErrLimit},
		"a long entry":        {table(`{"type":"dir","name":"` + strings.Repeat("d", tocEntryMax+1000) + `"}`), ErrLimit},
	} {
		if _, err := FromTOC(t.Context(), strings.NewReader(test.table), known{}, 1000, true, small); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader(`{"version":1,`), errorReader{broken})
	if _, err := FromTOC(t.Context(), r, known{}, 1000, true, small); !errors.Is(err, broken) || errors.Is(err, ErrTOC) {
		t.Errorf("error %v, want that of the reader", err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// FuzzFromTOC: whatever a table of contents says, what comes out is a layer, and
// what is missing of it lies within the blob.
func FuzzFromTOC(f *testing.F) {
	for _, seed := range tocSeeds(f) {
		f.Add([]byte(seed))
	}
	const end = 1 << 20
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := FromTOC(t.Context(), bytes.NewReader(data), known{}, end, true, small)
		if err != nil {
			return
		}
		at := int64(0)
		for _, m := range p.Missing {
			if m.Offset < at || m.Length <= 0 || m.Offset+m.Length > end {
				t.Errorf("%d bytes at %d, after %d", m.Length, m.Offset, at)
			}
			at = m.Offset + m.Length
			m.Inline(strings.Repeat("x", int(min(m.Size, tree.InlineMax))))
			m.Object(fsverity.Digest{1})
		}
		gaps, err := p.Gaps()
		at = 0
		for k, g := range gaps {
			if at += g.Length; g.Length < 0 || k < len(p.spans) && g.Offset+g.Length != p.spans[k].offset {
				t.Errorf("gap %d has %d bytes at %d", k, g.Length, g.Offset)
			}
		}
		if err == nil && at+p.Stored() != end {
			t.Errorf("%d bytes between contents and %d of them, of %d", at, p.Stored(), end)
		}
		checkNames(t, p.Layer.root, 0)
		if _, err := Merge([]*Layer{p.Layer}); err != nil && !errors.Is(err, ErrLayer) {
			t.Error(err)
		}
	})
}

// table writes a table of contents with n files, as JSON.
func table(n int) []byte {
	var out bytes.Buffer
	out.WriteString(`{"version":1,"entries":[`)
	for i := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		sum := sha256.Sum256([]byte(strconv.Itoa(i)))
		e, _ := json.Marshal(map[string]any{
			"type": "reg", "name": fmt.Sprintf("usr/share/package-%04d/file-with-a-name-%d.txt", i/100, i), "mode": 0o644, "size": 1000,
			"modtime": "2025-01-01T00:00:00Z", "accesstime": "0001-01-01T00:00:00Z", "changetime": "0001-01-01T00:00:00Z",
			"digest": fmt.Sprintf("sha256:%x", sum), "offset": 1 + i*500, "endOffset": 400 + i*500,
		})
		out.Write(e)
	}
	out.WriteString(`],"tarSplitDigest":"sha256:00"}`)
	return out.Bytes()
}

func BenchmarkFromTOC(b *testing.B) {
	for _, files := range []int{10_000, 50_000, 200_000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			data := table(files)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := FromTOC(b.Context(), bytes.NewReader(data), known{}, 1<<40, false, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(files), "ns/file")
		})
	}
}
