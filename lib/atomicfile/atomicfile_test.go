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

func TestRemove(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Mkdir("dir", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "dir/two", "kept"} {
		if err := Write(root, name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what is gone is no error
		if err := Remove(root, "one", "none", "dir/two"); err != nil {
			t.Error(err)
		}
	}
	for name, there := range map[string]bool{"one": false, "dir/two": false, "kept": true} {
		if _, err := root.Stat(name); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Remove(root, "../outside"); err == nil {
		t.Error("removed outside of the root")
	}
	if err := Remove(root, "dir", "dir/three"); err != nil { // an empty directory goes, too
		t.Error(err)
	}
}

func TestWriteJSON(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := WriteJSON(root, "file", map[string]int{"a": 1}, 0o640); err != nil {
		t.Fatal(err)
	}
	if data, err := root.ReadFile("file"); string(data) != "{\n  \"a\": 1\n}\n" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := root.Stat("file"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if err := WriteJSON(root, "file", func() {}, 0o640); err == nil {
		t.Error("wrote a function")
	}
}
