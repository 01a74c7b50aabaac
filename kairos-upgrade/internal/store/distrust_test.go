package store

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What was found damaged is replaced by what is put, and whoever reads the old
// file goes on doing so.
func TestDistrust(t *testing.T) {
	both(t, func(t *testing.T, k Kernel) {
		dir := t.TempDir()
		for _, size := range []int{5000, inMemory + 5000} {
			s := writer(t, dir, k)
			good := content(uint64(size), size)
			d := put(t, s, good)
			if err := s.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Close()
			name := filepath.Join(dir, ObjectPath(d))
			bad := bytes.Clone(good)
			bad[size/2] ^= 1
			if err := os.WriteFile(name, bad, 0o644); err != nil { // beneath fs-verity, as a bad disk would
				t.Fatal(err)
			}
			old, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()

			s = writer(t, dir, k)
			put(t, s, good)
			if err := s.Commit(t.Context()); err != nil || len(s.Added()) != 0 {
				t.Fatalf("an object that is there was written again: %v, %v", s.Added(), err)
			}
			s.Distrust(d)
			if s.Has(d) {
				t.Error("present, though it is distrusted")
			}
			if absent := slices.Collect(s.Distrusted()); len(absent) != 1 {
				t.Errorf("distrusted are %v", absent)
			}
			put(t, s, good)
			if err := s.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if have, err := os.ReadFile(name); err != nil || !bytes.Equal(have, good) || !s.Has(d) {
				t.Errorf("%d bytes: not replaced: %v", size, err)
			}
			if absent := slices.Collect(s.Distrusted()); len(absent) != 0 {
				t.Errorf("%d bytes: put again, and still distrusted: %v", size, absent)
			}
			if have, err := io.ReadAll(old); err != nil || !bytes.Equal(have, bad) {
				t.Errorf("%d bytes: the file was written, not replaced: %v", size, err)
			}
			if err := s.RemoveObject(d); err != nil || s.Has(d) {
				t.Errorf("%d bytes: still present after its removal: %v", size, err)
			}
			s.Close()
		}
	})
}
