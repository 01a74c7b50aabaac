package datasource

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A medium is read through a mount that nobody else sees, that can't be written to, and that ends with it.
func TestMountDevice(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	content := t.TempDir()
	if err := os.WriteFile(filepath.Join(content, "user-data"), []byte("#cloud-config\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "medium")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 8<<20)); err != nil {
		t.Fatal(err)
	}
	loop, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	device := strings.TrimSpace(string(loop))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	if _, _, err := mountDevice(device); err == nil {
		t.Error("mounted an empty device")
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-d", content, device).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	dir, unmount, err := mountDevice(device)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "user-data")); string(data) != "#cloud-config\n" {
		t.Errorf("content %q, %v", data, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v", err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), device+" ") {
		t.Errorf("the mount is visible, %v", err)
	}
	unmount()
	if f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL, 0); err != nil { // busy while it is mounted
		t.Errorf("after the end: %v", err)
	} else {
		f.Close()
	}
}
