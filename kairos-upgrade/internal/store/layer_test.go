package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	digest "github.com/opencontainers/go-digest"
)

// A layer that was saved is known at once, and to others when Commit has made
// its objects durable; without a Commit nothing is left of it.
func TestSave(t *testing.T) {
	dir := t.TempDir()
	s := writer(t, dir, newSoftware())
	empty := make([]byte, 1024) // the end of an archive
	l, err := layer.Import(t.Context(), bytes.NewReader(empty), s, layer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	save := func(content string) (id, file string) {
		t.Helper()
		d := digest.FromString(content)
		if err := s.Save(d.String(), l); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(d.String()); err != nil || !s.Knows(d.String()) {
			t.Errorf("it is not known to the one who saved it: %v", err)
		}
		return d.String(), filepath.Join(dir, layersDir, d.Encoded())
	}
	id, file := save("one")
	if _, err := os.Stat(file); err == nil {
		t.Error("it has its name before Commit")
	}
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if writer(t, killed, newSoftware()).Knows(id) {
		t.Error("a layer survived that was never committed")
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(id); err != nil {
		t.Errorf("after Commit: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}

	defer func(every time.Duration) { saveEvery = every }(saveEvery)
	saveEvery = 0
	_, file = save("two")
	if _, err := os.Stat(file); err != nil {
		t.Errorf("when it is time: %v", err)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	if ids, err := s.Layers(); err != nil || len(ids) != 0 {
		t.Errorf("after Undo there are %v, %v", ids, err)
	}

	saveEvery = time.Hour
	id, _ = save("three")
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	if s.Knows(id) {
		t.Error("it is known after Undo")
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Errorf("Commit after Undo: %v", err)
	}
}
