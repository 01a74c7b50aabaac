package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// objectsIn are objects as files of a directory.
type objectsIn string

func (dir objectsIn) Put(_ context.Context, r io.Reader, _ int64) (fsverity.Digest, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return fsverity.Digest{}, err
	}
	d := fsverity.Bytes(data)
	return d, os.WriteFile(filepath.Join(string(dir), d.String()), data, 0o600)
}

func (dir objectsIn) Has(fsverity.Digest) bool { return false }

func (dir objectsIn) open(d fsverity.Digest) (*os.File, error) {
	return os.Open(filepath.Join(string(dir), d.String()))
}

// splitOf returns the tar-split data of an archive as others make them.
func splitOf(t testing.TB, archive []byte) []byte {
	t.Helper()
	blob, annotations := imagetest.Chunked(t, archive)
	var at, length, size int64
	if _, err := fmt.Sscanf(annotations[imagetest.SplitPosition], "%d:%d:%d", &at, &length, &size); err != nil {
		t.Fatal(err)
	}
	return plain(t, blob[at:at+length])
}

// described returns a layer as its table of contents describes it, whose
// contents are in dir.
func described(t testing.TB, archive []byte, dir objectsIn) *Partial {
	t.Helper()
	if _, err := Import(t.Context(), bytes.NewReader(archive), dir, Limits{}); err != nil {
		t.Fatal(err)
	}
	table, blob, end := tableOf(t, archive)
	p, err := FromTOC(t.Context(), bytes.NewReader(table), known{}, end, true, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	complete(t, p, blob)
	return p
}

func splitArchive(t testing.TB) []byte {
	pax := entry("pax")
	pax.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "comment": strings.Repeat("c", 2000)}
	return imagetest.Tar(t, []tar.Header{entry("./"), entry("d/"), entry("d/f"), entry("d/g"), entry("d/l -> f"), entry("d/h => d/f"), entry("below => x/y"),
		entry(".wh.gone"), entry("d/.wh..wh..opq"), entry("i/j/k"), pax, {Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		map[string]string{"d/f": strings.Repeat("content ", 20), "d/g": strings.Repeat("CONTENT ", 20), "pax": "inline"})
}

// TestSplit: the tar stream comes back to the last byte, and the layer is that
// of the stream.
func TestSplit(t *testing.T) {
	for i, archive := range [][]byte{splitArchive(t), imagetest.Tar(t, nil, nil)} {
		dir := objectsIn(t.TempDir())
		p := described(t, archive, dir)
		for path, n := range p.Layer.root.Walk() { // no metadata of the table
			if n.UID = 4711; n.IsRegular() {
				n.Mode |= 0o4000
			}
			_ = path
		}
		var stream bytes.Buffer
		l, err := p.Import(t.Context(), bytes.NewReader(splitOf(t, archive)), dir.open, &stream, Limits{})
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if !bytes.Equal(stream.Bytes(), archive) {
			t.Errorf("%d: another tar stream", i)
		}
		want, err := Import(t.Context(), bytes.NewReader(archive), Discard, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encoded(t, l), encoded(t, want)) {
			t.Errorf("%d: another layer", i)
		}
	}
}

// TestSplitLies: data that come to another stream give what that stream holds,
// or an error; never a file with a content that the stream does not have there.
func TestSplitLies(t *testing.T) {
	archive := splitArchive(t)
	dir := objectsIn(t.TempDir())
	split := string(splitOf(t, archive))
	for what, lie := range map[string]string{
		"another content":      strings.Replace(split, `"name":"d/f"`, `"name":"d/g"`, 1),
		"a file that is none":  strings.Replace(split, `"name":"d/f"`, `"name":"d/l"`, 1),
		"a way out":            strings.Replace(split, `"name":"d/f"`, `"name":"../d/f"`, 1),
		"another size":         strings.Replace(split, `"size":160`, `"size":159`, 1),
		"a negative size":      strings.Replace(split, `"size":160`, `"size":-160`, 1),
		"a content in pieces":  strings.Replace(split, `{"type":1,"name":"d/f","size":160`, `{"type":2,"payload":"`+base64.StdEncoding.EncodeToString([]byte("x"))+`"}{"type":1,"name":"d/f","size":160`, 1),
		"unknown keys":         strings.Replace(split, `"type":1`, `"mode":1,"type":1`, 1),
		"no type":              strings.Replace(split, `"type":1`, `"type":3`, 1),
		"the end is missing":   split[:len(split)/2],
		"an entry without end": `{"type":2,"payload":"` + strings.Repeat("A", splitEntryMax),
	} {
		if lie == split {
			t.Fatalf("%s: the lie is the truth", what)
		}
		var stream bytes.Buffer
		l, err := described(t, archive, dir).Import(t.Context(), strings.NewReader(lie), dir.open, &stream, Limits{})
		if err != nil {
			if !errors.Is(err, ErrTOC) && !errors.Is(err, ErrLayer) && !errors.Is(err, ErrLimit) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if bytes.Equal(stream.Bytes(), archive) {
			t.Errorf("%s: taken for the truth", what)
		}
		checkSplit(t, l, stream.Bytes())
	}
}

// checkSplit compares a layer with what its tar stream holds.
func checkSplit(t *testing.T, l *Layer, stream []byte) {
	t.Helper()
	want, err := Import(t.Context(), bytes.NewReader(stream), Discard, Limits{})
	if err != nil {
		t.Fatalf("the stream is no layer: %v", err)
	}
	if !bytes.Equal(encoded(t, l), encoded(t, want)) {
		t.Error("the layer is not that of its stream")
	}
}

// FuzzSplit: any tar-split data are refused, or give the layer of the stream
// that they come to.
func FuzzSplit(f *testing.F) {
	archive := splitArchive(f)
	dir := objectsIn(f.TempDir())
	f.Add(splitOf(f, archive))
	for _, seed := range seeds(f)[1:3] {
		f.Add(splitOf(f, seed))
	}
	header := func(name string, size int64) []byte { // of a file alone
		return imagetest.Tar(f, []tar.Header{entry(name)}, map[string]string{name: strings.Repeat("x", int(size))})[:512]
	}
	for _, pair := range [][2]string{{"d/f", "d/g"}, {"d/g", "d/f"}, {"new", "d/f"}, {"pax", "d/f"}} {
		one, _ := json.Marshal(map[string]any{"type": 2, "payload": header(pair[0], 160)})
		two, _ := json.Marshal(map[string]any{"type": 1, "name": pair[1], "size": 160, "payload": []byte("crc")})
		three, _ := json.Marshal(map[string]any{"type": 2, "payload": make([]byte, 96+1024)})
		f.Add(bytes.Join([][]byte{one, two, three}, []byte("\n")))
	}
	// FromTOC and the contents come once: Import changes nothing of them.
	p := described(f, archive, dir)
	f.Fuzz(func(t *testing.T, data []byte) {
		var stream bytes.Buffer
		if l, err := p.Import(t.Context(), bytes.NewReader(data), dir.open, &stream, small); err == nil {
			checkSplit(t, l, stream.Bytes())
		}
	})
}
