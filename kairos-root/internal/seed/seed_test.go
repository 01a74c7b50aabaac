package seed

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func roots(t *testing.T) (Seeder, string, string) {
	t.Helper()
	image, node := t.TempDir(), t.TempDir()
	var s Seeder
	var err error
	if s.Image, err = os.OpenRoot(image); err != nil {
		t.Fatal(err)
	}
	if s.Node, err = os.OpenRoot(node); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Image.Close(); s.Node.Close() })
	return s, image, node
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

var then = time.Unix(1700000000, 123456789)

func TestDirFills(t *testing.T) {
	s, image, node := roots(t)
	in := func(name string) string { return filepath.Join(image, "root", name) }
	must(t,
		os.MkdirAll(in("sub/deep"), 0o755),
		os.WriteFile(in("sub/file"), []byte("content"), 0o644),
		os.Link(in("sub/file"), in("hard")),
		os.Symlink("/nowhere/else", in("link")),
		os.WriteFile(in("sticky"), nil, 0o600),
		os.Chmod(in("sticky"), 0o4750|os.ModeSetuid),
		unix.Mkfifo(in("fifo"), 0o640),
		os.Chmod(in("sub"), 0o555),
		os.Chtimes(in("sub/file"), then, then),
		os.Chtimes(in("sub"), then, then),
		os.Chmod(in("."), 0o700),
	)
	t.Cleanup(func() { // so that the directories can be removed by others than root
		_ = os.Chmod(in("sub"), 0o755)
		_ = os.Chmod(filepath.Join(node, ".state/root.bind/sub"), 0o755)
	})
	xattrs := unix.Lsetxattr(in("sticky"), "user.note", []byte("kept"), 0) == nil
	if os.Geteuid() == 0 {
		must(t, os.Lchown(in("sub/file"), 12, 34), os.Lchown(in("link"), 12, 34))
	}
	// What a power cut left behind is in nobody's way.
	must(t, os.MkdirAll(filepath.Join(node, ".state/.#root.bind/half"), 0o755))

	made, err := s.Dir(".state/root.bind", "root", true)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	out := func(name string) string { return filepath.Join(node, ".state/root.bind", name) }
	if data, err := os.ReadFile(out("hard")); err != nil || string(data) != "content" {
		t.Errorf("hard: %q, %v", data, err)
	}
	var a, b unix.Stat_t
	must(t, unix.Lstat(out("hard"), &a), unix.Lstat(out("sub/file"), &b))
	if a.Ino != b.Ino || a.Nlink != 2 {
		t.Error("the hard link is a copy")
	}
	if a.Mtim.Sec != then.Unix() || a.Mtim.Nsec != int64(then.Nanosecond()) {
		t.Errorf("time of a file: %v", a.Mtim)
	}
	if os.Geteuid() == 0 && (a.Uid != 12 || a.Gid != 34) {
		t.Errorf("owner %d:%d", a.Uid, a.Gid)
	}
	for name, mode := range map[string]uint32{".": 0o40700, "sub": 0o40555, "sticky": 0o104750, "fifo": 0o10640, "sub/deep": 0o40755} {
		var st unix.Stat_t
		must(t, unix.Lstat(out(name), &st))
		if st.Mode != mode {
			t.Errorf("%s: mode %o, want %o", name, st.Mode, mode)
		}
	}
	if link, err := os.Readlink(out("link")); link != "/nowhere/else" {
		t.Errorf("link: %q, %v", link, err)
	}
	value := make([]byte, 10)
	if n, err := unix.Lgetxattr(out("sticky"), "user.note", value); xattrs && (err != nil || string(value[:n]) != "kept") {
		t.Errorf("extended attribute: %q, %v", value[:max(n, 0)], err)
	}
	if left, _ := filepath.Glob(filepath.Join(node, ".state/.#*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// A second time nothing happens: what the node deleted stays deleted.
	must(t, os.Remove(out("hard")))
	if made, err := s.Dir(".state/root.bind", "root", true); made || err != nil {
		t.Errorf("second time: made %v, %v", made, err)
	}
	if _, err := os.Lstat(out("hard")); err == nil {
		t.Error("the second time brought a deleted file back")
	}
}

func TestDirOnlyMetadata(t *testing.T) {
	s, image, node := roots(t)
	must(t, os.MkdirAll(filepath.Join(image, "etc/ssh/sub"), 0o755), os.Chmod(filepath.Join(image, "etc/ssh"), 0o710))
	for state, like := range map[string]string{"a": "etc/ssh", "b": "etc/none", "c": ""} {
		if made, err := s.Dir(state, like, false); err != nil || !made {
			t.Errorf("%s: made %v, %v", state, made, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(node, "a"))
	info, _ := os.Stat(filepath.Join(node, "a"))
	if err != nil || len(entries) != 0 || info.Mode().Perm() != 0o710 {
		t.Errorf("a: %v %v, %v", entries, info.Mode(), err)
	}
	must(t, os.WriteFile(filepath.Join(node, "file"), nil, 0o644))
	if _, err := s.Dir("file", "", false); err == nil {
		t.Error("a file is no directory")
	}
}

func TestDirFailsWhole(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	s, image, node := roots(t)
	must(t, os.MkdirAll(filepath.Join(image, "d"), 0o755), os.WriteFile(filepath.Join(image, "d/x"), nil, 0))
	if _, err := s.Dir("state/d", "d", true); err == nil {
		t.Error("no error")
	}
	if left, _ := os.ReadDir(filepath.Join(node, "state")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestComplete(t *testing.T) {
	s, image, node := roots(t)
	must(t,
		os.MkdirAll(filepath.Join(image, "usr/local/share/man/man1"), 0o755),
		os.MkdirAll(filepath.Join(image, "usr/local/bin"), 0o755),
		os.WriteFile(filepath.Join(image, "usr/local/share/file"), nil, 0o644),
		os.WriteFile(filepath.Join(image, "usr/local/bin/agent"), nil, 0o644),
		os.Symlink("share/man", filepath.Join(image, "usr/local/man")),
		os.Mkdir(filepath.Join(image, "usr/local/etc"), 0o755),
		os.WriteFile(filepath.Join(node, "etc"), []byte("the node's"), 0o644),
		os.MkdirAll(filepath.Join(node, "share/own"), 0o755),
	)
	for range 2 {
		if err := s.Complete(".", "usr/local", []string{"usr/local/bin"}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(node, "man/man1")); err != nil || !info.IsDir() {
		t.Errorf("man: %v", err)
	}
	if data, _ := os.ReadFile(filepath.Join(node, "etc")); string(data) != "the node's" {
		t.Errorf("etc: %q", data)
	}
	for _, name := range []string{"bin", "share/file"} {
		if _, err := os.Lstat(filepath.Join(node, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}
