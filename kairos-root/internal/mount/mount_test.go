package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/kairos-root/internal/mount"
	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

func tmpfs(t *testing.T, attr int) string {
	t.Helper()
	mounttest.Need(t, "tmpfs")
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
	mounttest.Write(t, filepath.Join(original, "sub/file"), "seen")
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
	if got := mounttest.Content(t, filepath.Join(original, "sub/file")); got != "seen" {
		t.Errorf("content %q", got)
	}
	if err := mount.Detach(filepath.Join(at, "sub")); err != nil {
		t.Error(err)
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
	mounttest.Need(t, "overlay")
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
	root, err := mount.OpenRoot(dir)
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

func TestIsMountPoint(t *testing.T) {
	at := tmpfs(t, 0)
	for path, want := range map[string]bool{at: true, t.TempDir(): false, "/no/such/path": false} {
		if got, err := mount.IsMountPoint(path); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}
