package fat_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/powercut/fat"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// What mtools copies into a file system is read back.
func TestRead(t *testing.T) {
	if _, err := os.Stat(workspace.Cache("tools", "usr/bin/mcopy")); err != nil {
		t.Skip("no tools root")
	}
	dir, err := os.MkdirTemp("/tmp", "kairos-fat-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o644), os.Truncate(image, 36<<20)); err != nil {
		t.Fatal(err)
	}
	tool := func(name string, arg ...string) {
		t.Helper()
		if _, err := workspace.RunTool(t.Context(), name, arg...); err != nil {
			t.Fatal(err)
		}
	}
	tool("mkfs.vfat", "-F", "32", "-s", "1", image)
	tool("mmd", "-i", image, "::EFI", "::EFI/BOOT", "::loader", "::loader/entries")
	large := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(large)
	files := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI": []byte("short"), "readme.txt": []byte("lower case"), "empty": {},
		"loader/entries/kairos-12-0123456789ab+2-1.conf": []byte("title a long name\n"),
		"loader/" + strings.Repeat("name-", 40):          []byte("a longer one"),
		"loader/.#temporary-ü":                           []byte("beyond ASCII"),
		"hole":                                           []byte("in the way of the next"),
		"large":                                          large,
	}
	for name, content := range files {
		source := filepath.Join(dir, "source")
		if err := os.WriteFile(source, content, 0o644); err != nil {
			t.Fatal(err)
		}
		tool("mcopy", "-o", "-i", image, source, "::"+name)
	}
	tool("mdel", "-i", image, "::hole")
	delete(files, "hole")
	device, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	f, err := fat.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		file, err := f.Lookup(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got, err := file.Content(); err != nil || !bytes.Equal(got, content) || file.Name != filepath.Base(name) {
			t.Errorf("%s: %q with %d bytes that differ from the %d written, %v", name, file.Name, len(got), len(content), err)
		}
	}
	if _, err := f.Lookup("hole"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was removed: %v", err)
	}
}

// FuzzFS damages a file system in many places: reading it ends, and doesn't panic.
func FuzzFS(f *testing.F) {
	file, err := os.Open("testdata/small.fat.gz")
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		f.Fatal(err)
	}
	image, err := io.ReadAll(unpacked)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(11), []byte{0, 0})
	f.Add(uint32(36), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint32(32*512+8), []byte{2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		// Most of the image is free space.
		damaged := bytes.Clone(image)
		copy(damaged[int(at)%len(damaged):], change)
		fsys, err := fat.Open(bytes.NewReader(damaged))
		if err != nil {
			return
		}
		if root, err := fsys.Lookup("/"); err == nil {
			walk(fsys, root, 0)
		}
	})
}

func walk(fsys *fat.FS, dir *fat.File, depth int) {
	files, err := fsys.ReadDir(dir)
	if err != nil || depth > 3 {
		return
	}
	for _, file := range files {
		if file.Dir {
			walk(fsys, file, depth+1)
		} else {
			file.Content()
		}
	}
}
