package inotify

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEvents(t *testing.T) {
	dir := t.TempDir()
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	sub := filepath.Join(dir, "sub")
	for _, d := range []string{dir, dir, sub} {
		if err := w.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	next := func(want Event) {
		t.Helper()
		if have := <-w.Events(); have != want {
			t.Errorf("%+v, want %+v", have, want)
		}
	}
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	next(Event{dir, "sub"})
	if err := os.WriteFile(filepath.Join(sub, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(sub); err != nil { // it is there now
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(sub, "a"), filepath.Join(sub, "b")); err != nil {
		t.Fatal(err)
	}
	next(Event{sub, "a"})
	next(Event{sub, "b"})
	if err := os.RemoveAll(sub); err != nil {
		t.Fatal(err)
	}
	next(Event{sub, "b"})
	next(Event{dir, "sub"})
	if err := w.Add(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(file); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(dir); err != nil {
		t.Fatal(err)
	}
	changed, done := make(chan struct{}, 16), make(chan struct{})
	asked := make(chan string, 16)
	go func() {
		defer close(done)
		w.Follow(func(e Event) bool { asked <- e.Name; return e.Name == "matters" }, func() { changed <- struct{}{} })
	}()
	for _, name := range []string{"noise", "matters"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if have := <-asked; have != name {
			t.Errorf("asked about %s, want %s", have, name)
		}
	}
	<-changed
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	<-done
	if len(changed) != 0 {
		t.Error("told twice")
	}
}
