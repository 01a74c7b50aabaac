package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/klauspost/compress/zstd"
)

// small keeps a fuzzer from spending its time on size.
var small = Limits{Entries: 1000, Metadata: 1 << 20, Content: 1 << 20, Stream: 2 << 20}

// seeds are archives with a bit of everything.
func seeds(t testing.TB) [][]byte {
	all := []string{
		"./", "d/", "d/f", "d/l -> f", "d/h => d/f", "below => x/y", ".wh.gone", "d/.wh..wh..opq",
		"i/j/k", "d/l => d/f", "d/" + strings.Repeat("n", 200), ".wh..wh.plnk/1",
	}
	var headers []tar.Header
	for _, e := range all {
		headers = append(headers, entry(e))
	}
	pax := entry("pax")
	pax.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
	device := tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}
	fifo := tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}
	headers = append(headers, pax, device, fifo)
	whole := imagetest.Tar(t, headers, map[string]string{"d/f": strings.Repeat("content ", 20), "pax": "inline"})
	return [][]byte{
		whole,
		imagetest.Tar(t, headers[:3], nil),
		imagetest.Tar(t, nil, nil),
		raw(func(h *[512]byte) { copy(h[:], "sparse"); h[156] = 'S'; copy(h[257:], "ustar  \x00") }),
	}
}

// FuzzImport: whatever a tar stream holds, Import returns, and what it returns
// is a layer that survives its record and a merge over another layer.
func FuzzImport(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		setChecksums(data)
		l, err := Import(t.Context(), bytes.NewReader(data), Discard, small)
		if err != nil {
			return
		}
		checkNames(t, l.root, 0)
		back := again(t, l)
		lower := mustBuild(t, "x/y", "d/", "d/old", "gone", "i -> d")
		root, err := Merge([]*Layer{lower, back})
		if err != nil {
			return
		}
		checkNames(t, root, 0)
		for path, n := range root.Walk() {
			if isLowerLink(n) {
				t.Errorf("%q is still a link to a lower layer", path)
			}
		}
	})
}

// setChecksums makes the checksums of the headers right, which a fuzzer does
// not get through.
func setChecksums(data []byte) {
	for len(data) >= 512 {
		h := data[:512]
		data = data[512:]
		if bytes.Equal(h, make([]byte, 512)) {
			continue
		}
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		var size int
		if _, err := fmt.Sscanf(string(h[124:135]), "%o", &size); err == nil && size > 0 {
			data = data[min(len(data), (size+511)/512*512):]
		}
	}
}

// checkNames checks what nothing may break: every name is one that a directory
// can hold.
func checkNames(t *testing.T, dir *tree.Inode, depth int) {
	if depth > pathMax {
		t.Fatal("the tree is too deep")
	}
	for name, child := range dir.Children() {
		if err := tree.CheckName(name); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(name, whiteoutPrefix) {
			t.Errorf("the tree has a file called %q", name)
		}
		if child.IsDir() {
			checkNames(t, child, depth+1)
		}
	}
}

// FuzzDecode: any bytes are refused or are the record of a layer, whose own
// record says the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range seeds(f) {
		l, err := Import(f.Context(), bytes.NewReader(seed), Discard, small)
		if err != nil {
			continue
		}
		record := encoded(f, l)
		f.Add(record)
		f.Add(record[:len(record)/2])
	}
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := Decode(bytes.NewReader(data), small); err == nil {
			checkDecoded(t, l)
		}
	})
}

// FuzzPayload is FuzzDecode behind compression and SHA-256, which a fuzzer
// does not get through.
func FuzzPayload(f *testing.F) {
	z, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range seeds(f) {
		l, err := Import(f.Context(), bytes.NewReader(seed), Discard, small)
		if err != nil {
			continue
		}
		payload, err := z.DecodeAll(encoded(f, l)[len(recordMagic):], nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload[:len(payload)-sha256.Size])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sum := sha256.Sum256(data)
		d := newDecoder(bytes.NewReader(append(data, sum[:]...)), small)
		if err := d.record(); err != nil {
			return
		}
		back, err := z.DecodeAll(encoded(t, d.layer)[len(recordMagic):], nil)
		if err != nil || !bytes.Equal(back[:len(back)-sha256.Size], data) {
			t.Errorf("the record is read as something else (%v)", err)
		}
		checkDecoded(t, d.layer)
	})
}

func checkDecoded(t *testing.T, l *Layer) {
	back := again(t, l)
	lower := mustBuild(t, "x/y", "d/", "d/old", "gone", "i -> d")
	root, err := Merge([]*Layer{lower, back})
	if err == nil {
		for range root.Walk() {
		}
	}
}
