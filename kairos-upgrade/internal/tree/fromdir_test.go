package tree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestFromDir(t *testing.T) {
	dir := t.TempDir()
	large := bytes.Repeat([]byte("large "), 1000)
	for _, sub := range []string{"a/b", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "a/small"), []byte("small"))
	write(t, filepath.Join(dir, "a/64"), large[:64])
	write(t, filepath.Join(dir, "a/65"), large[:65])
	write(t, filepath.Join(dir, "a/large"), large)
	for _, err := range []error{
		os.Link(filepath.Join(dir, "a/large"), filepath.Join(dir, "a/b/link")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "a/passwd")),
		os.Link(filepath.Join(dir, "a/passwd"), filepath.Join(dir, "passwd")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "a/small"), []unix.Timespec{{Sec: 1}, {Sec: -3, Nsec: 999}}, 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	hasXattr := unix.Setxattr(filepath.Join(dir, "a/65"), "user.note", []byte("x\x00y"), 0) == nil

	stored := make(map[string]bool)
	root, err := FromDir(context.Background(), dir, func(r io.Reader, size int64) (fsverity.Digest, error) {
		content, err := io.ReadAll(r)
		stored[string(content)] = true
		if int64(len(content)) != size {
			t.Errorf("%d bytes of %d", len(content), size)
		}
		return fsverity.Bytes(content), err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != 2 || !stored[string(large)] || !stored[string(large[:65])] {
		t.Errorf("%d contents given to the sink", len(stored))
	}
	link := root.Find("a/b/link")
	if link == nil || link != root.Find("a/large") || link.Digest != fsverity.Bytes(large) || link.Size != int64(len(large)) {
		t.Errorf("hard link %+v", link)
	}
	if n := root.Find("a/passwd"); n == nil || n != root.Find("passwd") || n.Content != "/etc/passwd" || n.Size != 11 {
		t.Errorf("symbolic link %+v", n)
	}
	if n := root.Find("a/small"); n.Content != "small" || n.Size != 5 || n.Mtime != -3 || n.Mode != unix.S_IFREG|0o640 {
		t.Errorf("small file %+v", n)
	}
	if n := root.Find("a/64"); n.HasObject() || len(n.Content) != 64 {
		t.Errorf("file of 64 bytes %+v", n)
	}
	if n := root.Find("a/65"); !n.HasObject() || hasXattr != (len(n.Xattrs) == 1) {
		t.Errorf("file of 65 bytes %+v", n)
	} else if v, _ := n.Xattr("user.note"); hasXattr && v != "x\x00y" {
		t.Errorf("attribute %q", v)
	}
	if n := root.Find("fifo"); n.Type() != unix.S_IFIFO {
		t.Errorf("fifo %+v", n)
	}
	if n := root.Find("empty"); !n.IsDir() || n.Len() != 0 {
		t.Errorf("empty directory %+v", n)
	}
}

func TestFromDirErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), make([]byte, 100))
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		path string
		sink Sink
		want error
		text string
	}{
		{"missing", filepath.Join(dir, "none"), Hash, os.ErrNotExist, "none"},
		{"not a directory", filepath.Join(dir, "file"), Hash, unix.ENOTDIR, "file"},
		{"sink", dir, func(io.Reader, int64) (d fsverity.Digest, err error) { return d, boom }, boom, dir + "/file: boom"},
		{"changed", dir, func(r io.Reader, size int64) (fsverity.Digest, error) {
			f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			f.WriteString("more")
			return Hash(r, size)
		}, ErrChanged, dir + "/file: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := FromDir(context.Background(), c.path, c.sink)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := FromDir(ctx, dir, Hash); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
