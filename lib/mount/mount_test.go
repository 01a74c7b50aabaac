package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/mount/namespacetest"
)

func TestMain(m *testing.M) { namespacetest.Main(m) }

func tmpfs(t *testing.T, attr int) string {
	t.Helper()
	namespacetest.Need(t, "tmpfs")
	tree, err := mount.FileSystem{Type: "tmpfs", Options: []mount.Option{{Key: "size", Value: "1m"}}, Attr: attr}.Create()
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := tree.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mount.Detach(at) })
	return at
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestCloneIsPrivate sees that what is mounted in a clone does not appear in
// the original, which systemd makes shared.
func TestCloneIsPrivate(t *testing.T) {
	original := tmpfs(t, 0)
	if err := unix.Mount("", original, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(original, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(original, "sub/file"), []byte("seen"), 0o644); err != nil {
		t.Fatal(err)
	}
	clone, err := mount.Clone(open(t, original))
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := clone.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(at)
	covered, err := mount.FileSystem{Type: "tmpfs"}.Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := covered.AttachAt(filepath.Join(at, "sub")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(original, "sub/file")); string(got) != "seen" {
		t.Errorf("content %q, %v", got, err)
	}
	if err := mount.Detach(filepath.Join(at, "sub")); err != nil {
		t.Error(err)
	}
}

// TestCloneAll sees that a copy has the mounts beneath, receives later ones, and gives none back.
func TestCloneAll(t *testing.T) {
	original := tmpfs(t, 0)
	if err := unix.Mount("", original, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	on := func(dir string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		tree, err := mount.FileSystem{Type: "tmpfs"}.Create()
		if err == nil {
			err = tree.AttachAt(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	on(filepath.Join(original, "before"))
	clone, err := mount.CloneAll(open(t, original))
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := clone.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(at)
	on(filepath.Join(original, "after"))
	on(filepath.Join(at, "mine"))
	for path, want := range map[string]bool{
		filepath.Join(at, "before"): true, filepath.Join(at, "after"): true, filepath.Join(original, "mine"): false,
	} {
		if got, err := mount.IsMountPoint(path); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}

func TestSetWritable(t *testing.T) {
	original := tmpfs(t, mount.ReadOnly|mount.NoDev|mount.NoSuid)
	clone, err := mount.Clone(open(t, original))
	if err != nil {
		t.Fatal(err)
	}
	if err := clone.SetWritable(); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := clone.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(at)
	const all = unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC
	for path, want := range map[string]int64{at: unix.ST_NODEV | unix.ST_NOSUID, original: unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID} {
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil || st.Flags&all != want {
			t.Errorf("%s: flags %#x, %v", path, st.Flags, err)
		}
	}
}

func TestSetAttr(t *testing.T) {
	original := tmpfs(t, mount.NoDev|mount.NoSuid|mount.NoExec)
	clone, err := mount.Clone(open(t, original))
	if err != nil {
		t.Fatal(err)
	}
	if err := clone.SetAttr(mount.NoDev | mount.ReadOnly); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := clone.AttachAt(at); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(at)
	const all = unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil || st.Flags&all != unix.ST_RDONLY|unix.ST_NODEV {
		t.Errorf("flags %#x, %v", st.Flags, err)
	}
	if err := unix.Statfs(original, &st); err != nil || st.Flags&all != all&^unix.ST_RDONLY {
		t.Errorf("flags of the original %#x, %v", st.Flags, err)
	}
}

// TestErrorsSpeak sees that the kernel's own words reach the error.
func TestErrorsSpeak(t *testing.T) {
	namespacetest.Need(t, "overlay")
	_, err := mount.FileSystem{Type: "overlay", Options: []mount.Option{{Key: "metacopy", Value: "perhaps"}}}.Create()
	var option *mount.OptionError
	if !errors.As(err, &option) || option.Option.Key != "metacopy" || !errors.Is(err, unix.EINVAL) ||
		!strings.Contains(err.Error(), "overlay: Bad value for 'metacopy'") {
		t.Errorf("error %v", err)
	}
	if _, err = (mount.FileSystem{Type: "nosuchfs"}).Create(); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("error %v", err)
	}
}

func TestIsMountPoint(t *testing.T) {
	at := tmpfs(t, 0)
	for path, want := range map[string]bool{at: true, t.TempDir(): false, "/no/such/path": false} {
		if got, err := mount.IsMountPoint(path); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}
