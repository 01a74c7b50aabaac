package view

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs a test on a thread with mounts of its own, which dies with
// the test.
func inNamespace(t *testing.T, test func(t *testing.T) (skip error)) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	skip := make(chan error, 1)
	go func() {
		defer close(skip)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = test(t)
		}
		skip <- err
	}()
	if err := <-skip; err != nil {
		t.Skip(err)
	}
}

// A writable view of a read-only mount is writable for us, and the mount stays
// read-only for everybody.
func TestWritableOverReadonlyMount(t *testing.T) {
	dir := t.TempDir()
	inNamespace(t, func(t *testing.T) error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return err
		}
		v, err := Writable(dir)
		if err != nil {
			t.Errorf("open: %v", err)
			return nil
		}
		defer v.Close()
		if err := v.Root.WriteFile("new", []byte("x"), 0o644); err != nil {
			t.Errorf("write through the view: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "new")); err != nil {
			t.Errorf("what was written is not seen: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write beside the view: %v, want EROFS", err)
		}
		if _, free, err := v.Space(); err != nil || free <= 0 {
			t.Errorf("%d free, %v", free, err)
		}
		return nil
	})
}

func TestWritableOverReadonlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	inNamespace(t, func(t *testing.T) error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
			return err
		}
		v, err := Writable(dir)
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("open: %v, want EROFS", err)
		}
		if v != nil {
			v.Close()
		}
		return nil
	})
}

func TestWritableDirectory(t *testing.T) {
	v, err := Writable(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Root.WriteFile("new", nil, 0o644); err != nil {
		t.Error(err)
	}
	if v.mount != nil {
		t.Error("a mount was made where none was needed")
	}
}

// Mount finds out what is on a partition and mounts it for this process alone.
func TestMount(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Mount(image); !errors.Is(err, ErrUnknownFileSystem) {
		t.Errorf("zeros: %v", err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	loop, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	device := string(loop[:len(loop)-1])
	defer exec.Command("losetup", "-d", device).Run()
	v, err := Mount(device)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Root.WriteFile("new", nil, 0o644); err != nil {
		t.Error(err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || len(mounts) == 0 {
		t.Fatal(err)
	} else if strings.Contains(string(mounts), device+" ") {
		t.Error("the mount is visible")
	}
}
