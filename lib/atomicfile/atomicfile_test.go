package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
)

func TestWriteReplacesOrLeaves(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	check := func(want string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(dir, "file"))
		if err != nil || string(got) != want {
			t.Errorf("content %q, %v; want %q", got, err, want)
		}
		if names, _ := os.ReadDir(dir); len(names) != 1 {
			t.Errorf("left behind: %v", names)
		}
	}
	if err := Write(root, "file", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("old")
	broken := io.MultiReader(iotest.OneByteReader(iotest.ErrReader(errors.New("link down"))))
	if err := WriteFrom(root, "file", broken, 0o600); err == nil {
		t.Fatal("a broken source was taken for success")
	}
	check("old")
	if err := Write(root, "file", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	check("new")
	if info, _ := os.Stat(filepath.Join(dir, "file")); info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := Write(root, "../outside", nil, 0o644); err == nil {
		t.Error("wrote outside of the root")
	}
}

func TestRename(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, content := range map[string]string{"old": "old", "new": "new"} {
		if err := Write(root, name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Rename(root, "new", "old"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "old"))
	if names, _ := os.ReadDir(dir); err != nil || string(got) != "new" || len(names) != 1 {
		t.Errorf("content %q, %v, beside %v", got, err, names)
	}
	if err := Rename(root, "none", "old"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
}
