package store

import (
	"testing"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

// A repair, and then a staging, may be one process: what the repair has
// restored outlives a staging that fails, and one that drops what it doesn't need.
func TestTransferKeepsWhatWasThereBefore(t *testing.T) {
	s := writer(t, t.TempDir(), newSoftware())
	restored := put(t, s, []byte("restored before"))
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func() error{
		"drop": func() error { _, err := s.Drop(func(fsverity.Digest) bool { return false }); return err },
		"undo": s.Undo,
	} {
		if err := s.BeginTransfer(); err != nil {
			t.Fatal(err)
		}
		fetched := put(t, s, []byte("fetched, and then "+name))
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if s.Has(fetched) || !s.Has(restored) {
			t.Errorf("%s: fetched %t, restored %t", name, s.Has(fetched), s.Has(restored))
		}
	}
}
