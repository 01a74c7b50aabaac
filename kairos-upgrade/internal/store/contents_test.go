package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/fsverity"
	digest "github.com/opencontainers/go-digest"
)

func commit(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestContents: objects are found by their plain SHA-256, by this process and
// by the next, after the index was lost or damaged, and not when they are gone.
func TestContents(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		dir := t.TempDir()
		s := writer(t, dir, k)
		small, large := content(1, 1000), content(2, inMemory+5)
		want, sizes := map[Sum]fsverity.Digest{}, map[Sum]int64{}
		for _, b := range [][]byte{small, large} {
			want[sha256.Sum256(b)], sizes[sha256.Sum256(b)] = put(t, s, b), int64(len(b))
		}
		commit(t, s)
		check := func(name string, s *Store) {
			t.Helper()
			c, err := s.Contents(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for sum, d := range want {
				if _, ok := c.Object(sum, sizes[sum]+1); ok {
					t.Errorf("%s: an object of %d bytes has one more", name, sizes[sum])
				}
				if have, ok := c.Object(sum, sizes[sum]); !ok || have != d {
					t.Errorf("%s: %x is %s, %v; want %s", name, sum, have, ok, d)
				}
			}
			if _, ok := c.Object(sha256.Sum256([]byte("other")), 5); ok {
				t.Errorf("%s: what was never put is there", name)
			}
			if len(c.entries) != len(want) {
				t.Errorf("%s: %d entries", name, len(c.entries))
			}
		}
		check("same process", s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		index := filepath.Join(dir, contentsFile)
		whole, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		again := func(name string, data []byte) {
			t.Helper()
			if err := os.WriteFile(index, data, 0o644); err != nil {
				t.Fatal(err)
			}
			s := writer(t, dir, k)
			check(name, s)
			s.Close()
			if len(want) == 2 {
				if now, err := os.ReadFile(index); err != nil || !bytes.Equal(now, whole) {
					t.Errorf("%s: the index was not made again (%v)", name, err)
				}
			}
		}
		again("next process", whole)
		again("empty index", nil)
		for _, at := range []int{0, len(contentsMagic), len(contentsMagic) + 40, len(whole) - 1} {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 0x80
			again(fmt.Sprintf("byte %d", at), damaged)
			again(fmt.Sprintf("cut at %d", at), whole[:at])
		}
		gone := sha256.Sum256(small)
		if err := os.Remove(filepath.Join(dir, ObjectPath(want[gone]))); err != nil {
			t.Fatal(err)
		}
		delete(want, gone)
		again("object gone", whole)
	})
}

// TestContentsCopied: a store that was made of another one knows its contents
// without reading them.
func TestContentsCopied(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		from, to := writer(t, t.TempDir(), k), writer(t, t.TempDir(), k)
		b := content(1, 5000)
		d := put(t, from, b)
		commit(t, from)
		if err := from.saveContents(); err != nil {
			t.Fatal(err)
		}
		if err := to.Copy(t.Context(), from, d); err != nil {
			t.Fatal(err)
		}
		commit(t, to)
		to.CopyContents(from)
		present, err := to.present()
		if err != nil {
			t.Fatal(err)
		}
		if known := to.knownContents(present); len(known) != 1 || known[0] != (indexEntry{sha256.Sum256(b), d}) {
			t.Errorf("%v", known)
		}
	})
}

// TestInterruptedTransfer: what a staging leaves that was interrupted is kept
// by a collection, what was there before is not, nor is it kept for ever.
func TestInterruptedTransfer(t *testing.T) {
	dir := t.TempDir()
	k := newSoftware()
	s := writer(t, dir, k)
	before := put(t, s, content(1, 1000))
	commit(t, s)
	age := func(name string, by time.Duration) {
		t.Helper()
		at := time.Now().Add(-by)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	age(ObjectPath(before), time.Hour)
	if err := s.BeginTransfer(); err != nil {
		t.Fatal(err)
	}
	age(sinceFile, time.Minute)
	after := put(t, s, content(2, 1000))
	commit(t, s)
	blob := digest.FromString("blob")
	f, err := s.OpenPartial(blob)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("half of")
	f.Close()
	s.Close()

	s = writer(t, dir, k)
	if err := s.BeginTransfer(); err != nil { // goes on
		t.Fatal(err)
	}
	swept, err := s.Sweep(Live{Interrupted: true}, false)
	if err != nil || swept.Objects != 1 || s.Has(before) || !s.Has(after) {
		t.Errorf("%+v, %v", swept, err)
	}
	if f, err := s.OpenPartial(blob); err != nil {
		t.Error(err)
	} else if data, _ := io.ReadAll(f); string(data) != "half of" {
		t.Errorf("the blob is %q", data)
	}
	age(sinceFile, staleAfter+time.Minute)
	swept, err = s.Sweep(Live{Interrupted: true}, true)
	if err != nil || swept.Objects != 1 || swept.Bytes < int64(len("half of")) {
		t.Errorf("stale, dry run: %+v, %v", swept, err)
	}
	age(sinceFile, -time.Hour) // a clock that was wrong
	if swept, err = s.Sweep(Live{Interrupted: true}, false); err != nil || swept.Objects != 1 || s.Has(after) {
		t.Errorf("from the future: %+v, %v", swept, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, partialDir)); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	if _, err := s.OpenPartial("sha256:../../x"); err == nil {
		t.Error("a digest that is none is a file")
	}
}

// FuzzContents: an index is read as it was written, or refused.
func FuzzContents(f *testing.F) {
	var valid bytes.Buffer
	if err := encodeContents(&valid, []indexEntry{{Sum{1}, fsverity.Digest{2}}, {Sum{3}, fsverity.Digest{4}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(valid.Bytes())
	f.Add([]byte(contentsMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeContents(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !errors.Is(err, errContents) {
				t.Errorf("error %v", err)
			}
			return
		}
		var again bytes.Buffer
		if err := encodeContents(&again, entries); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Errorf("%x becomes %x (%v)", data, again.Bytes(), err)
		}
	})
}

// BenchmarkContents: the index of 200,000 objects.
func BenchmarkContents(b *testing.B) {
	entries := make([]indexEntry, 200_000)
	for i := range entries {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(i))
		entries[i] = indexEntry{sha256.Sum256(n[:]), sha256.Sum256(append(n[:], 1))}
	}
	entries = sorted(entries)
	var file bytes.Buffer
	if err := encodeContents(&file, entries); err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeContents(bytes.NewReader(file.Bytes()), int64(file.Len())); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("find", func(b *testing.B) { // what is not there
		c := &Contents{store: &Store{}, entries: entries}
		i := 0
		for b.Loop() {
			sum := entries[i%len(entries)].sum
			sum[31] ^= 1
			if _, ok := c.Object(sum, 5); ok {
				b.Fatal("found")
			}
			i += 7919
		}
	})
}
