package ext4

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-media/internal/verity"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/run"
)

const at = 1 << 20

func needs(t *testing.T, programs ...string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, p := range programs {
		if !run.Has(p) {
			t.Skipf("%s is missing: package e2fsprogs", p)
		}
	}
}

// store writes a tree like a store's, with fs-verity data, and returns it and its
// contents.
func store(t *testing.T, files int) (Tree, map[string][]byte) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	random := rand.NewChaCha8([32]byte{7})
	contents := map[string][]byte{"deployments/1-abc.json": []byte("{}"), "lock": {}}
	for i := range files {
		content := make([]byte, []int{500, 4096, 10000, 70000, 3 << 20}[i%5])
		random.Read(content)
		digest := fsverity.Bytes(content).String()
		contents["objects/"+digest[:2]+"/"+digest[2:]] = content
	}
	for name, content := range contents {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range contents {
		if strings.HasPrefix(name, "objects/") {
			m, err := verity.Append(filepath.Join(dir, name), fsverity.Bytes(content))
			if err != nil {
				t.Fatal(err)
			}
			tree.Files[name] = Source{Length: m.End(), Size: m.Size, Flags: verity.Flags, Hole: m.At - (m.Size+BlockSize-1)/BlockSize*BlockSize}
		}
	}
	return tree, contents
}

func makeIn(t *testing.T, tree Tree) (file string, size int64) {
	t.Helper()
	file, size = filepath.Join(t.TempDir(), "disk"), tree.Size()
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, at+size+at); err != nil {
		t.Fatal(err)
	}
	err := tree.Make(t.Context(), run.Runner{}, file, at, size, Made{
		Label: "COS_LIVE", UUID: "11111111-1111-4111-8111-111111111111", HashSeed: "22222222-1111-4111-8111-111111111111",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	})
	if err != nil {
		t.Fatal(err)
	}
	return file, size
}

func TestMake(t *testing.T) {
	needs(t, "mkfs.ext4", "debugfs", "e2fsck")
	tree, contents := store(t, 40)
	file, size := makeIn(t, tree)
	if out, err := exec.Command("e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", file, at)).CombinedOutput(); err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data[:at], make([]byte, at)) || !bytes.Equal(data[at+size:], make([]byte, at)) {
		t.Error("something is written outside of the file system")
	}
	again, _ := makeIn(t, tree)
	if other, err := os.ReadFile(again); err != nil || sha256.Sum256(other) != sha256.Sum256(data) {
		t.Errorf("the same tree makes another file system (%v)", err)
	}
	fs, err := Open(bytes.NewReader(data[at:at+size]), size)
	if err != nil {
		t.Fatal(err)
	}
	if fs.Label != "COS_LIVE" || fs.UUID != "11111111-1111-4111-8111-111111111111" {
		t.Errorf("label %s, UUID %s", fs.Label, fs.UUID)
	}
	for name, want := range contents {
		f, err := fs.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		have, err := io.ReadAll(f.Content())
		if err != nil || !bytes.Equal(have, want) || !f.Regular {
			t.Errorf("%s: %d bytes, want %d (%v)", name, len(have), len(want), err)
		}
		if !strings.HasPrefix(name, "objects/") {
			continue
		}
		m, _ := verity.Compute(bytes.NewReader(want), int64(len(want)))
		behind := make([]byte, len(m.Bytes()))
		if _, err := f.ReadAt(behind, m.At); err != nil || !bytes.Equal(behind, m.Bytes()) || f.Flags != verity.Flags {
			t.Errorf("%s: other fs-verity data, flags %#x (%v)", name, f.Flags, err)
		}
	}
	if _, err := fs.Find("objects/nothing"); err == nil {
		t.Error("a file that is not there was found")
	}
	// Little room is left: sizes are computed, not guessed.
	used := int64(0)
	for _, f := range tree.Files {
		used += f.Length - f.Hole
	}
	if size > used+used/10+8<<20 {
		t.Errorf("%d MiB for %d MiB", size>>20, used>>20)
	}
}

// Nothing of a store has such a name; debugfs would take it apart.
func TestScanRefuses(t *testing.T) {
	for _, name := range []string{"a b", "-x", "a\nmkdir b", `a"b`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Scan(dir); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Scan(dir); err == nil {
		t.Error("a link is accepted")
	}
}

// What debugfs can't write is an error, though it ends with 0.
func TestMakeWithoutRoom(t *testing.T) {
	needs(t, "mkfs.ext4", "debugfs")
	tree, _ := store(t, 10)
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Truncate(file, 4<<20)); err != nil {
		t.Fatal(err)
	}
	err := tree.Make(t.Context(), run.Runner{}, file, 0, 4<<20, Made{Label: "X", UUID: "11111111-1111-4111-8111-111111111111", HashSeed: "11111111-1111-4111-8111-111111111111"})
	if err == nil || !strings.Contains(err.Error(), "Could not allocate block") {
		t.Errorf("without room: %v", err)
	}
}

// A medium may be damaged, or made to look like one.
func FuzzRead(f *testing.F) {
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, where int, value byte) {
		image := make([]byte, 64<<10)
		copy(image[1024:], data)
		image[1024+56], image[1024+57], image[1024+24] = 0x53, 0xef, 2
		if where >= 0 && where < len(image) {
			image[where] = value
		}
		fs, err := Open(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			return
		}
		var walk func(file *File, depth int)
		walk = func(file *File, depth int) {
			entries, err := file.Entries()
			if err != nil || depth > 2 {
				return
			}
			for _, e := range entries {
				if f, err := fs.Open(e); err == nil {
					f.ReadAt(make([]byte, 8192), 4000)
					walk(f, depth+1)
				}
			}
		}
		if root, err := fs.Root(); err == nil {
			walk(root, 0)
		}
	})
}
