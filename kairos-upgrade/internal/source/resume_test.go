package source

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	digest "github.com/opencontainers/go-digest"
)

func serve(w http.ResponseWriter, r *http.Request, blob []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
}

// probes reports whether a request only asks whether ranges are understood.
func probes(r *http.Request, blob []byte) bool {
	return strings.HasPrefix(r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", len(blob)))
}

// TestDrops drops every connection at another byte: the layer still arrives,
// each byte once.
func TestDrops(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := testImage(t, "")
			registry, ref, o := faulty(t, b)
			random := mathrand.New(mathrand.NewPCG(seed, 0))
			var drops atomic.Int32
			registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
				if !isLayer(r, b) || probes(r, blob) {
					return false
				}
				drops.Add(1)
				serve(imagetest.Cut(w, 1+random.IntN(len(blob)/4+1)), r, blob)
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
			if drops.Load() < 5 {
				t.Errorf("%d requests: the fault was not met", drops.Load())
			}
		})
	}
}

// TestNoProgress: a server that gives nothing more is not asked for ever.
func TestNoProgress(t *testing.T) {
	b := testImage(t, "")
	registry, ref, o := faulty(t, b)
	var asked atomic.Int32
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		switch {
		case !isLayer(r, b), probes(r, blob):
			return false
		case r.Header.Get("Range") == "":
			serve(imagetest.Cut(w, 1000), r, blob)
		default:
			asked.Add(1)
			serve(imagetest.Cut(w, 0), r, blob)
		}
		return true
	})
	if _, _, err := readAll(t, ref, o); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("error %v", err)
	}
	// One is made by containers/image.
	if n := asked.Load(); n != Attempts && n != Attempts+1 {
		t.Errorf("%d attempts to go on", n)
	}
}

// TestStall: a connection over which nothing comes counts as broken.
func TestStall(t *testing.T) {
	defer func(d time.Duration) { stallAfter = d }(stallAfter)
	stallAfter = 100 * time.Millisecond
	b := testImage(t, "")
	registry, ref, o := faulty(t, b)
	var stalls atomic.Int32
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !isLayer(r, b) || probes(r, blob) || stalls.Add(1) > 2 {
			return false
		}
		serve(imagetest.Stall(w, r, 300_000), r, blob)
		return true
	})
	img, streams, err := readAll(t, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, streams)
	stalls.Store(-1 << 20) // from now on, always
	if _, _, err := readAll(t, ref, o); err != nil {
		t.Errorf("it stalls again and again: %v", err)
	}
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !isLayer(r, b) {
			return false
		}
		r.Header.Del("Range")
		serve(imagetest.Stall(w, r, 300_000), r, blob)
		return true
	})
	if _, _, err := readAll(t, ref, o); !errors.Is(err, errStalled) {
		t.Errorf("error %v, want one about a stall", err)
	}
}

// TestBusyRegistry: 429 is obeyed, for blobs and for parts of them.
func TestBusyRegistry(t *testing.T) {
	b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: lowerTar(t), Compression: "zstd:chunked"}}})
	registry, ref, o := faulty(t, b)
	var busy atomic.Int32
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !isLayer(r, b) || busy.Add(1)%2 == 0 {
			return false
		}
		w.Header().Set("Retry-After", "0")
		http.Error(w, "later", http.StatusTooManyRequests)
		return true
	})
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := img.ReadTOC(t.Context(), 0, func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }); err != nil {
		t.Error(err)
	}
	if _, err := readLayer(t.Context(), img, 0); err != nil {
		t.Error(err)
	}
	if busy.Load() < 4 {
		t.Errorf("%d requests", busy.Load())
	}
}

// TestTagMoves: what was resolved once is what is read, whatever becomes of the
// tag.
func TestTagMoves(t *testing.T) {
	b := testImage(t, "gzip")
	registry, ref, o := faulty(t, b)
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	registry.Push("os", "kept", b)
	registry.Push("os", "v1", imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: upperTar(t)}}}))
	var streams [][]byte
	for i := range img.Layers {
		data, err := readLayer(t.Context(), img, i)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, data)
	}
	checkImage(t, img, streams)
	if img.ManifestDigest != b.Manifest {
		t.Errorf("manifest digest %s, want %s", img.ManifestDigest, b.Manifest)
	}
}

// spool keeps blobs in a directory.
type spool string

func (s spool) OpenPartial(d digest.Digest) (*os.File, error) {
	return os.OpenFile(filepath.Join(string(s), d.Encoded()), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
}

func (s spool) RemovePartial(d digest.Digest) error {
	return os.Remove(filepath.Join(string(s), d.Encoded()))
}

// incompressible is a layer whose blob is as large as its file.
func incompressible(t *testing.T, size int) []byte {
	body := make([]byte, size)
	rand.Read(body)
	return imagetest.Tar(t, upperHeader, map[string]string{"usr/b": string(body)})
}

// TestKilledTransfer: what had arrived of a blob when the process ended is not
// fetched again; what is wrong of it does no harm.
func TestKilledTransfer(t *testing.T) {
	defer func(n int64) { spoolMin = n }(spoolMin)
	spoolMin = 1000
	stream := incompressible(t, 1<<20)
	for _, compression := range []string{"", "gzip", "zstd"} {
		b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: stream, Compression: compression}}})
		blob := b.Blobs[b.Layers[0]]
		_, ref, o := faulty(t, b)
		for name, test := range map[string]struct {
			kept    []byte
			fetched int
		}{
			"nothing":          {nil, len(blob)},
			"a byte":           {blob[:1], len(blob) - 1},
			"half":             {blob[:len(blob)/2], len(blob) - len(blob)/2},
			"all but one":      {blob[:len(blob)-1], 1},
			"all":              {blob, 0},
			"too much":         {append(bytes.Clone(blob), 'x'), len(blob)},
			"zeros at the end": {append(bytes.Clone(blob[:1000]), make([]byte, 1000)...), 2*len(blob) - 2000},
			"another":          {bytes.Repeat([]byte("x"), 2000), 2*len(blob) - 2000},
		} {
			dir := t.TempDir()
			o.Spool = spool(dir)
			file := filepath.Join(dir, b.Layers[0].Encoded())
			if test.kept != nil {
				imagetest.Write(t, file, test.kept)
			}
			img, err := Open(t.Context(), ref, o)
			if err != nil {
				t.Fatal(err)
			}
			err = img.Retry(t.Context(), func() error {
				r, err := img.OpenLayer(t.Context(), 0)
				if err != nil {
					return err
				}
				defer r.Close()
				have, err := io.ReadAll(r)
				if err == nil && !bytes.Equal(have, stream) {
					t.Errorf("%s, %s: another stream comes out", compression, name)
				}
				if err == nil {
					r.Done()
				}
				return err
			})
			if err != nil {
				t.Errorf("%s, %s: %v", compression, name, err)
			}
			// What is wrong is found at the end, or when it can't be decompressed.
			if n := int(img.Fetched()); n > test.fetched || n < min(test.fetched, len(blob)) {
				t.Errorf("%s, %s: %d bytes fetched, want %d of %d", compression, name, n, test.fetched, len(blob))
			}
			if _, err := os.Stat(file); err == nil {
				t.Errorf("%s, %s: what was kept is still there", compression, name)
			}
			img.Close()
		}
	}
}

// TestInterrupted: what has arrived when a transfer is given up is kept.
func TestInterrupted(t *testing.T) {
	defer func(n int64) { spoolMin = n }(spoolMin)
	spoolMin = 1000
	b := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: incompressible(t, 1<<20)}}})
	registry, ref, o := faulty(t, b)
	dir := t.TempDir()
	o.Spool = spool(dir)
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if !isLayer(r, b) || probes(r, blob) {
			return false
		}
		serve(imagetest.Stall(w, r, 500_000), r, blob)
		return true
	})
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := img.OpenLayer(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The rest of what comes is in a block that is not full yet.
	if _, err := io.CopyN(io.Discard, r, aheadBlock); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	r.Close()
	kept, err := os.ReadFile(filepath.Join(dir, b.Layers[0].Encoded()))
	if err != nil || len(kept) < aheadBlock || !bytes.HasPrefix(b.Blobs[b.Layers[0]], kept) {
		t.Errorf("%d bytes are kept (%v)", len(kept), err)
	}
}
