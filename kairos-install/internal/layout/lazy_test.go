package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestExt4Lazy counts what mke2fs writes to a store of 3.5 GiB, as systemd-repart calls
// it: hardly anything, and without the options a journal of zeros.
func TestExt4Lazy(t *testing.T) {
	const repart, limit = "nodiscard,lazy_itable_init=1", 8 << 20
	_, options, _ := strings.Cut(Environment()[0], "=")
	with := made(t, strings.Fields(options)...)
	without := made(t, "-E", repart)
	if with > limit || without < 64<<20 {
		t.Errorf("with %q %d bytes are written, without %d", options, with, without)
	}
}

// made makes a file system on a loop device, and returns the bytes written.
func made(t *testing.T, options ...string) int64 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "store")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 3500<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device: %v, %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "--detach", device).Run()
	written := func() int64 {
		text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "stat"))
		if err != nil {
			t.Skip(err)
		}
		const writeSectors = 6 // field; Documentation/block/stat.rst
		n, err := strconv.ParseInt(strings.Fields(string(text))[writeSectors], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n * 512
	}
	before := written()
	if out, err := exec.Command("mkfs.ext4", append(append([]string{"-q", "-F", "-b", "4096"}, options...), device)...).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v, %s", err, out)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return written() - before
}
