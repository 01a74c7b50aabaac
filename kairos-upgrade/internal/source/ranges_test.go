package source

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// frame is a file in a table of contents.
type frame struct {
	Digest            string
	Offset, EndOffset int64
}

// chunkedImage is a zstd:chunked image with n files of different sizes.
func chunkedImage(t *testing.T, n int) *imagetest.Built {
	var headers []tar.Header
	bodies := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("usr/%03d", i)
		headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644})
		body := make([]byte, 1+i*i%20_000)
		mathrand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(body)
		bodies[name] = string(body)
	}
	return imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: imagetest.Tar(t, headers, bodies), Compression: "zstd:chunked"}}})
}

// readFrames reads every third file of an image and compares it with its
// digest.
func readFrames(t *testing.T, img *Image) (bytes int64, err error) {
	var table struct{ Entries []frame }
	err = img.ReadTOC(t.Context(), 0, func(r io.Reader) error { return json.NewDecoder(r).Decode(&table) })
	if err != nil {
		return 0, err
	}
	var wanted []frame
	var ranges []Range
	for i, e := range table.Entries {
		if e.Digest != "" && i%3 == 1 {
			wanted = append(wanted, e)
			ranges = append(ranges, Range{e.Offset, e.EndOffset - e.Offset})
			bytes += e.EndOffset - e.Offset
		}
	}
	read := make([]int, len(ranges))
	frames, err := NewFrames()
	if err != nil {
		t.Fatal(err)
	}
	defer frames.Close()
	err = img.ReadRanges(t.Context(), 0, ranges, func(k int, r io.Reader) error {
		z, err := frames.Of(r)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(z)
		if have := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); err == nil && have != wanted[k].Digest {
			t.Errorf("content %d is %s, want %s", k, have, wanted[k].Digest)
		}
		read[k]++
		return err
	})
	for k, n := range read {
		if err == nil && n != 1 {
			t.Errorf("content %d was read %d times", k, n)
		}
	}
	return bytes + img.Layers[0].TOC.Length, err
}

// TestReadRanges holds the method of containers/image that is called by
// reflection against a server: if this fails after an update, nothing is
// fetched in part any more.
func TestReadRanges(t *testing.T) {
	b := chunkedImage(t, 600)
	registry, ref, o := faulty(t, b)
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	want, err := readFrames(t, img)
	if err != nil {
		t.Fatal(err)
	}
	if n := img.Fetched(); n < want || n > want+200*gapInRequest {
		t.Errorf("%d bytes fetched, want %d and gaps", n, want)
	}
	if n := img.Requests(); n != 1+2 { // 200 ranges, 128 in a request
		t.Errorf("%d requests", n)
	}
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		t.Error("a request is made for nothing")
		return false
	})
	if err := img.ReadRanges(t.Context(), 0, nil, nil); err != nil {
		t.Error(err)
	}
}

// TestRangeDrops drops every connection at another byte, in tables of contents,
// in parts and between them.
func TestRangeDrops(t *testing.T) {
	b := chunkedImage(t, 300)
	for seed := range uint64(20) {
		random := mathrand.New(mathrand.NewPCG(seed, 1))
		registry, ref, o := faulty(t, b)
		drops := 0
		registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if !isLayer(r, b) || probes(r, blob) {
				return false
			}
			drops++
			serve(imagetest.Cut(w, 500+random.IntN(100_000)), r, blob)
			return true
		})
		img, err := Open(t.Context(), ref, o)
		if err != nil {
			t.Fatal(err)
		}
		want, err := readFrames(t, img)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if n := img.Fetched(); n < want || n > want+100*gapInRequest {
			t.Errorf("seed %d: %d bytes fetched, want %d and gaps", seed, n, want)
		}
		if drops < 4 {
			t.Errorf("seed %d: %d requests: the fault was not met", seed, drops)
		}
		img.Close()
	}
}

// TestNoRanges: what can't read parts of blobs says so.
func TestNoRanges(t *testing.T) {
	b := chunkedImage(t, 10)
	img, err := Open(t.Context(), "oci:"+b.Layout(t, ""), accepting(t))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if _, err := readFrames(t, img); !errors.Is(err, ErrRanges) {
		t.Errorf("error %v, want ErrRanges", err)
	}
}

func TestPlan(t *testing.T) {
	for _, test := range []struct {
		ranges     []Range
		gap        int64
		perRequest int
		want       string
	}{
		{nil, 10, 5, "[]"},
		{[]Range{{5, 10}}, 10, 5, "[[{5 10}]]"},
		{[]Range{{0, 10}, {10, 10}, {30, 10}, {51, 1}}, 10, 5, "[[{0 40} {51 1}]]"},
		{[]Range{{0, 10}, {10, 10}, {30, 10}, {51, 1}}, 0, 5, "[[{0 20} {30 10} {51 1}]]"},
		{[]Range{{0, 1}, {10, 1}, {20, 1}}, 0, 2, "[[{0 1} {10 1}] [{20 1}]]"},
		{[]Range{{0, 1}, {10, 1}, {20, 1}}, 0, 1, "[[{0 1}] [{10 1}] [{20 1}]]"},
	} {
		if have := fmt.Sprint(plan(test.ranges, test.gap, test.perRequest)); have != test.want {
			t.Errorf("%v with gaps of %d, %d in a request: %s, want %s", test.ranges, test.gap, test.perRequest, have, test.want)
		}
	}
}
