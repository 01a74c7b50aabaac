package composefs

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// TestOracleDirectory has mkcomposefs read a real directory itself, so that
// tree.FromDir is held against it as well. mkcomposefs takes nanoseconds into
// the image and knows no hard links when it reads a directory: this one has
// neither.
func TestOracleDirectory(t *testing.T) {
	o := findOracle(t)
	dir := t.TempDir()
	makeDirectory(t, dir)
	compareDirectory(t, o, dir)
}

// TestOracleRootfs does the same with the root file system at the path in
// KAIROS_ROOTFS_PLAIN, which must be free of both as well.
func TestOracleRootfs(t *testing.T) {
	dir := os.Getenv("KAIROS_ROOTFS_PLAIN")
	if dir == "" {
		t.Skip("KAIROS_ROOTFS_PLAIN names no root file system")
	}
	compareDirectory(t, findOracle(t), dir)
}

// TestOracleRootfsDump normalizes the root file system at the path in
// KAIROS_ROOTFS, any will do, and gives its dump to mkcomposefs.
func TestOracleRootfsDump(t *testing.T) {
	dir := os.Getenv("KAIROS_ROOTFS")
	if dir == "" {
		t.Skip("KAIROS_ROOTFS names no root file system")
	}
	o := findOracle(t)
	root := fromDir(t, dir)
	if err := tree.Normalize(root, tree.NormalizeOptions{}); err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	got, err := Write(&image, root)
	if err != nil {
		t.Fatal(err)
	}
	if want := o.digest(t, dump(t, root)); got.String() != want {
		t.Errorf("digest %s, mkcomposefs says %s", got, want)
	}
	t.Logf("%s: %d bytes, %d hard-linked files", got, image.Len(), len(root.Links()))
	mustRoundTrip(t, root)
}

func fromDir(t testing.TB, dir string) *tree.Inode {
	t.Helper()
	root, err := tree.FromDir(context.Background(), dir, tree.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func compareDirectory(t *testing.T, o oracle, dir string) {
	t.Helper()
	root := fromDir(t, dir)
	got, err := Write(io.Discard, root)
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.exec(nil, "--print-digest-only", dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := string(bytes.TrimSpace(out)); got.String() != want {
		t.Errorf("digest %s, mkcomposefs says %s", got, want)
		if want != o.digest(t, dump(t, root)) {
			t.Error("the trees differ")
		}
	}
}

// makeDirectory makes one of everything that this user can make.
func makeDirectory(t testing.TB, dir string) {
	t.Helper()
	for _, size := range []int{0, 1, 64, 65, 4096, 4097, 200000} {
		name := filepath.Join(dir, strconv.Itoa(size))
		if err := os.WriteFile(name, bytes.Repeat([]byte("kairos\n"), size/7+1)[:size], 0o640); err != nil {
			t.Fatal(err)
		}
		// Without privilege, or on a tmpfs of old, there are no attributes:
		// the tree is compared as it is.
		_ = unix.Setxattr(name, "user.note", []byte("shared"), 0)
		_ = unix.Setxattr(name, "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o750))
	must(os.Symlink("../nowhere", filepath.Join(dir, "a/link")))
	must(os.WriteFile(filepath.Join(dir, "a/b/\xff\xfe\x01 name"), nil, 0o400))
	must(unix.Mkfifo(filepath.Join(dir, "a/fifo"), 0o600))
	_ = unix.Mknod(filepath.Join(dir, "a/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	_ = unix.Mknod(filepath.Join(dir, "a/whiteout"), unix.S_IFCHR, 0)
	must(filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		when := []unix.Timespec{{Sec: 1}, {Sec: 1700000000 + int64(len(path))}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, when, unix.AT_SYMLINK_NOFOLLOW)
	}))
}
