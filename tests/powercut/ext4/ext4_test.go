package ext4_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/tests/powercut/ext4"
	"github.com/kairos-io/toolkit/tests/powercut/fixture"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// What mkfs.ext4 copies into a file system is read back.
func TestRead(t *testing.T) {
	if _, err := os.Stat(workspace.Cache("tools", "usr/sbin/mkfs.ext4")); err != nil {
		t.Skip("no tools root")
	}
	dir, err := os.MkdirTemp("/tmp", "kairos-ext4-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	random := rand.NewChaCha8([32]byte{1})
	files := map[string][]byte{"empty": {}, "small": []byte("x"), "a/b/c/deep": []byte("deep")}
	for i := range 400 { // a directory with an index
		files[filepath.Join("many", "a-name-of-some-length-"+string(rune('a'+i%26))+"-"+string(rune('a'+i/26)))] = []byte{byte(i)}
	}
	large := make([]byte, 3<<20)
	random.Read(large)
	files["large"] = large
	for name, content := range files {
		path := filepath.Join(dir, "root", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	holes := filepath.Join(dir, "root", "holes") // a tree of extents with inner nodes
	if err := os.WriteFile(holes, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(holes, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(900) {
		if _, err := f.WriteAt([]byte{byte(i), 7}, i*3*4096); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if files["holes"], err = os.ReadFile(holes); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o644), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := workspace.RunTool(t.Context(), "mkfs.ext4", "-q", "-b", "4096", "-O", "verity", "-d", filepath.Join(dir, "root"), image); err != nil {
		t.Fatal(err)
	}
	// mkfs.ext4 makes no index; e2fsck does.
	workspace.RunTool(t.Context(), "e2fsck", "-fyD", image)
	device, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	e, err := ext4.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		got, err := e.ReadFile(name, 16<<20)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes that differ from the %d written, %v", name, len(got), len(content), err)
		}
	}
	many, err := e.Lookup("many")
	if err != nil {
		t.Fatal(err)
	}
	if names, err := e.ReadDir(many); err != nil || len(names) != 400 {
		t.Errorf("of 400 names %d are there, %v", len(names), err)
	}
	if _, err := e.Lookup("a/b/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what does not exist: %v", err)
	}
}

// Of a file with fs-verity the digest is what lib/fsverity computes; a byte that changes anywhere in it is
// found.
func TestCheckVerity(t *testing.T) {
	n := fixture.New(t)
	state := n.State()
	for _, boot := range n.Records[1].Boot {
		name := "objects/" + boot.Digest[:2] + "/" + boot.Digest[2:]
		inode := open(t, state, name)
		if got, err := inode.CheckVerity(); err != nil || got.String() != boot.Digest {
			t.Fatalf("%s: %s, %v", name, got, err)
		}
		blocks := 0
		inode.Blocks(func(block int64) {
			blocks++
			damaged := bytes.Clone(state)
			damaged[block*4096] ^= 1
			got, err := open(t, damaged, name).CheckVerity()
			if padding := int64(blocks)*4096 > (inode.Size+4095)/4096*4096 && int64(blocks)*4096 <= 1<<17; padding && err == nil {
				return // between content and tree nobody looks
			}
			if err == nil && got.String() == boot.Digest {
				t.Errorf("block %d of %s was damaged: nobody noticed", blocks-1, name)
			}
		})
		if blocks < 10 {
			t.Errorf("%s has %d blocks", name, blocks)
		}
	}
	record := open(t, state, "deployments/"+n.Records[0].ID+".json")
	if _, err := record.CheckVerity(); !errors.Is(err, fsverity.ErrNotEnabled) {
		t.Errorf("an ordinary file: %v", err)
	}
}

func open(t *testing.T, image []byte, name string) *ext4.Inode {
	t.Helper()
	e, err := ext4.Open(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	inode, err := e.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return inode
}

// FuzzFS damages a small file system in many places: reading it ends, and doesn't panic.
func FuzzFS(f *testing.F) {
	image, err := os.ReadFile("testdata/small.ext4")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(1024+0x60), []byte{0xff})
	f.Add(uint32(1024+0x18), []byte{9})
	f.Add(uint32(4096), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		damaged := bytes.Clone(image)
		copy(damaged[int(at)%len(damaged):], change)
		e, err := ext4.Open(bytes.NewReader(damaged))
		if err != nil {
			return
		}
		walk(e, 2, 0)
	})
}

func walk(e *ext4.FS, number uint32, depth int) {
	i, err := e.Inode(number)
	if err != nil || depth > 4 {
		return
	}
	i.CheckVerity()
	if i.Size < 1<<20 {
		io.Copy(io.Discard, i.Content())
	}
	names, err := e.ReadDir(i)
	if err != nil {
		return
	}
	for _, number := range names {
		walk(e, number, depth+1)
	}
}
