package sysroot

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRootKeepsLinksInside sees that an image's absolute links lead to places
// of the image.
func TestRootKeepsLinksInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, outside), 0o755),
		os.Symlink(outside, filepath.Join(dir, "absolute")),
		os.Symlink("../../../../../.."+outside, filepath.Join(dir, "relative")),
		os.Symlink("/proc/self/cwd", filepath.Join(dir, "magic")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"/absolute", "relative", "/../../absolute"} {
		f, err := root.MkdirAll(name + "/made/here")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f.Close()
		if _, err := os.Stat(filepath.Join(dir, outside, "made/here")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, outside, "made")); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("made outside: %v", left)
	}
	if f, err := root.Dir("magic"); err == nil {
		t.Errorf("opened %s", f.Name())
	}
}
