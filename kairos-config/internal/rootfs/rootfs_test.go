package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"github.com/kairos-io/toolkit/lib/bounded"
	"golang.org/x/sys/unix"
)

func open(t testing.TB, dir string) *Root {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestNothingLeavesTheRoot writes and reads through every kind of link that
// points out of the root and looks at what it points to.
func TestNothingLeavesTheRoot(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := testroot.New(t)
	r := open(t, dir)
	up := strings.Repeat("../", 20)
	for name, target := range map[string]string{
		"abs": outside, "up": up + outside[1:], "file": filepath.Join(outside, "victim"), "upfile": up + outside[1:] + "/victim",
		"magic": "/proc/self/root" + outside, "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/abs/victim", "/up/victim", "/file", "/upfile", "/magic/victim", "/loop/x", "/../.." + outside + "/victim", "/var/../../../.." + outside + "/victim"} {
		if data, err := r.ReadFile(name, 1<<20); err == nil {
			t.Errorf("read %s: got %q from outside", name, data)
		}
		_, _ = r.WriteFile(name, []byte("changed"), Attr{0o777, Keep, Keep})
		_, _ = r.Mkdir(filepath.Dir(name)+"/made", KeepAll)
	}
	if got := read(t, outside, "victim"); got != "outside" {
		t.Errorf("the file outside became %q", got)
	}
	entries, _ := os.ReadDir(outside)
	if len(entries) != 1 {
		t.Errorf("made outside: %v", entries)
	}
}

func TestAbsoluteLinksStayInside(t *testing.T) {
	dir := testroot.New(t)
	r := open(t, dir)
	if _, err := r.Mkdir("/var/run/x", KeepAll); err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteFile("/var/run/x/y", []byte("z"), KeepAll); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "run/x/y"); got != "z" {
		t.Errorf("got %q", got)
	}
}

func TestWriteFile(t *testing.T) {
	dir := testroot.New(t)
	r := open(t, dir)
	write := func(content string, attr Attr, want bool) {
		t.Helper()
		changed, err := r.WriteFile("/etc/f", []byte(content), attr)
		if err != nil || changed != want {
			t.Fatalf("changed %v, %v; want %v", changed, err, want)
		}
	}
	mode := func(want os.FileMode) {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, "etc/f"))
		if err != nil || info.Mode().Perm() != want {
			t.Fatalf("mode %v, %v; want %v", info.Mode(), err, want)
		}
	}
	defer unix.Umask(unix.Umask(0o077)) // must not matter
	write("a", KeepAll, true)
	mode(0o644)
	write("a", KeepAll, false)
	write("a", Attr{0o600, Keep, Keep}, true)
	write("b", KeepAll, true)
	mode(0o600) // kept
	write("b", Attr{0o600, os.Getuid(), os.Getgid()}, false)
	write("", Attr{0o4755, Keep, Keep}, true)
	if info, _ := os.Stat(filepath.Join(dir, "etc/f")); info.Mode()&os.ModeSetuid == 0 {
		t.Error("setuid bit lost")
	}
	names, _ := filepath.Glob(filepath.Join(dir, "etc/.#*"))
	if len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestWriteFileKeepsLinks(t *testing.T) {
	dir := testroot.New(t)
	r := open(t, dir)
	for link, target := range map[string]string{"etc/resolv.conf": "../run/resolv.conf", "etc/absolute": "/run/absolute"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
		for i, content := range []string{"long content", "short", "short"} {
			changed, err := r.WriteFile("/"+link, []byte(content), Attr{0o640, Keep, Keep})
			if err != nil || changed != (i < 2) {
				t.Errorf("%s: changed %v, %v", link, changed, err)
			}
		}
		if got := read(t, dir, "run/"+filepath.Base(link)); got != "short" {
			t.Errorf("%s: target has %q", link, got)
		}
		if got, _ := os.Readlink(filepath.Join(dir, link)); got != target {
			t.Errorf("link became %q", got)
		}
	}
}

func TestWriteFileErrors(t *testing.T) {
	dir := testroot.New(t)
	r := open(t, dir)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"relative":                         "not an absolute path",
		"/":                                "not an absolute path",
		"/etc/..":                          "not an absolute path",
		"/etc":                             "not a regular file",
		"/fifo":                            "not a regular file",
		"/none/x":                          "no such file or directory",
		"/etc/\x00":                        "invalid argument",
		"/etc/" + strings.Repeat("x", 300): "file name too long",
		"/etc/passwd/x":                    "not a directory",
	} {
		if _, err := r.WriteFile(name, nil, KeepAll); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
	if _, err := r.ReadFile("/fifo", 10); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("reading a FIFO: %v", err)
	}
	if _, err := r.ReadFile("/etc/passwd", 10); !errors.Is(err, bounded.ErrTooLarge) {
		t.Errorf("reading too much: %v", err)
	}
}

// TestWriteMountPoint: a file that is a mount point can't be replaced, only
// written.
func TestWriteMountPoint(t *testing.T) {
	dir := testroot.New(t)
	target := filepath.Join(dir, "etc/hosts")
	if err := unix.Mount(filepath.Join(dir, "etc/group"), target, "", unix.MS_BIND, ""); err != nil {
		t.Skip("needs mount(2):", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	if _, err := open(t, dir).WriteFile("/etc/hosts", []byte("x"), KeepAll); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "etc/group"); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestReadOnlyIsSaid(t *testing.T) {
	dir := testroot.New(t)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skip("needs mount(2):", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir)
	if _, err := r.WriteFile("/etc/new", nil, KeepAll); !errors.Is(err, unix.EROFS) {
		t.Errorf("new file: %v", err)
	}
	if _, err := r.WriteFile("/etc/hosts", nil, KeepAll); !errors.Is(err, unix.EROFS) {
		t.Errorf("old file: %v", err)
	}
	if _, err := r.Mkdir("/etc/new", KeepAll); !errors.Is(err, unix.EROFS) {
		t.Errorf("directory: %v", err)
	}
}

func TestMkdir(t *testing.T) {
	dir := testroot.New(t)
	r := open(t, dir)
	for i, want := range []bool{true, false} {
		if changed, err := r.Mkdir("/a/b/c", Attr{0o700, Keep, Keep}); err != nil || changed != want {
			t.Errorf("%d: changed %v, %v", i, changed, err)
		}
	}
	for name, mode := range map[string]os.FileMode{"a": 0o755, "a/b": 0o755, "a/b/c": 0o700} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if _, err := r.Mkdir("/etc/passwd/x", KeepAll); err == nil {
		t.Error("made a directory in a file")
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Mkdir("/dangling/x", KeepAll); err == nil || !strings.Contains(err.Error(), "symbolic link to a missing file") {
		t.Errorf("got %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := testroot.New(t)
	for _, name := range []string{"oem/b.yaml", "oem/a/z.yaml", "oem/a.yaml", "oem/c.txt", "oem/a-1.yaml"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/oem", filepath.Join(dir, "oem/loop")); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir)
	got, err := r.Files("/oem", func(name string) bool { return strings.HasSuffix(name, ".yaml") })
	want := "/oem/a/z.yaml /oem/a-1.yaml /oem/a.yaml /oem/b.yaml"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	if got, err := r.Files("/none", nil); got != nil || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := r.Files("/etc/passwd", nil); errors.Is(err, fs.ErrNotExist) || err == nil {
		t.Errorf("got %v", err)
	}
}

// TestAttach: what is attached is seen beneath the root, and detaching it
// leaves the mounts of the machine alone, those below /run too. Mounts are
// shared here, as systemd makes them: then unmounting a copy reaches the
// original, unless the copy is a slave.
func TestAttach(t *testing.T) {
	dir := testroot.New(t)
	done := make(chan struct{})
	go func() { // on a thread of its own, which ends with its mount namespace
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Log("not tested, needs a mount namespace:", err)
			return
		}
		below := "/run/below"
		for _, err := range []error{
			unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
			unix.Mount("none", "/run", "tmpfs", 0, ""),
			unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""),
			unix.Mkdir(below, 0o755),
			unix.Mount("none", below, "tmpfs", 0, ""),
			os.WriteFile(below+"/f", []byte("x"), 0o644),
		} {
			if err != nil {
				t.Error(err)
				return
			}
		}
		testAttach(t, dir, below)
	}()
	<-done
}

func testAttach(t *testing.T, dir, below string) {
	r, err := Open(dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	detach, err := r.Attach()
	if err != nil {
		t.Error(err)
		return
	}
	if got, err := r.ReadFile(below+"/f", 10); err != nil || string(got) != "x" {
		t.Errorf("beneath the root: %q, %v", got, err)
	}
	if !r.Exists("/proc/self/status") || !r.Exists("/dev/null") {
		t.Error("/proc or /dev is missing beneath the root")
	}
	if err := detach(); err != nil {
		t.Error(err)
	}
	if r.Exists("/proc/self") || r.Exists(below) {
		t.Error("still attached")
	}
	if got, err := os.ReadFile(below + "/f"); err != nil || string(got) != "x" {
		t.Errorf("the machine's mount is gone: %q, %v", got, err)
	}
}
