package device

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sysfs has a stick with two partitions, and a disk without any.
func sysfs(t *testing.T) System {
	t.Helper()
	sys := t.TempDir()
	stick := "devices/pci0000:00/usb1/1-1/block/sdb"
	for name, content := range map[string]string{
		stick + "/size":                "65536",
		stick + "/removable":           "0",
		stick + "/ro":                  "0",
		stick + "/device/model":        "Stick  ",
		stick + "/sdb1/partition":      "1",
		stick + "/sdb1/size":           "2048",
		stick + "/sdb1/uevent":         "DEVTYPE=partition\nPARTNAME=photos\n",
		stick + "/sdb2/partition":      "2",
		stick + "/sdb2/size":           "4096",
		"devices/virtual/sda/size":     "8192",
		"devices/virtual/sda/ro":       "1",
		"devices/virtual/sda/queue/it": "",
	} {
		file := filepath.Join(sys, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for number, dir := range map[string]string{"8:16": stick, "8:17": stick + "/sdb1", "8:0": "devices/virtual/sda"} {
		link := filepath.Join(sys, "dev/block", number)
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(filepath.Join(sys, dir), link)); err != nil {
			t.Fatal(err)
		}
	}
	return System{Sys: sys}
}

func TestLook(t *testing.T) {
	s := sysfs(t)
	d, err := s.disk("/dev/sdb", "8:16")
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "sdb" || d.Model != "Stick" || d.Size != 32<<20 || !d.Removable || d.ReadOnly || len(d.Partitions) != 2 {
		t.Errorf("%+v", d)
	}
	if p := d.Partitions[0]; p.Name != "sdb1" || p.Label != "photos" || p.Size != 1<<20 {
		t.Errorf("%+v", p)
	}
	if d, err := s.disk("/dev/sda", "8:0"); err != nil || d.Removable || !d.ReadOnly || len(d.Partitions) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := s.disk("/dev/sdb1", "8:17"); !errors.Is(err, ErrNoDisk) {
		t.Errorf("a partition: %v", err)
	}
	if _, err := s.Look(t.TempDir()); !errors.Is(err, ErrNoDisk) {
		t.Errorf("a directory: %v", err)
	}
}

func source(t *testing.T, size int) (*os.File, []byte) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{3}).Read(data)
	name := filepath.Join(t.TempDir(), "medium")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, data
}

// On a file, which is written as a disk is; and on a loop device, where there is one.
func TestWrite(t *testing.T) {
	for _, size := range []int{1 << 20, chunk, 2*chunk + 512} {
		from, data := source(t, size)
		to := filepath.Join(t.TempDir(), "disk")
		if err := errors.Join(os.WriteFile(to, nil, 0o644), os.Truncate(to, int64(size)+chunk)); err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		write := func(path string) {
			t.Helper()
			if _, err := Write(t.Context(), from, int64(size), path, nil, func(n int64) { last = n }); err != nil {
				t.Fatal(err)
			}
		}
		path, detach := loop(t, to)
		write(path)
		detach()
		have, err := os.ReadFile(to)
		if err != nil || !bytes.Equal(have[:size], data) || last != 2*int64(size) {
			t.Errorf("%d bytes on %s: other content, %d done (%v)", size, path, last, err)
		}
	}
}

// loop attaches a loop device, or returns the file where there is none.
func loop(t *testing.T, file string) (path string, detach func()) {
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		return file, func() {}
	}
	path = strings.TrimSpace(string(out))
	return path, func() {
		if err := exec.Command("losetup", "-d", path).Run(); err != nil {
			t.Error(err)
		}
	}
}

// Another disk that has got the name since is not written to.
func TestStill(t *testing.T) {
	var st unix.Stat_t
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := unix.Fstat(int(null.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	numbers := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	s := System{Sys: t.TempDir()}
	dir := filepath.Join(s.Sys, "dev/block", numbers)
	plug := func(sequence string) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "diskseq"), []byte(sequence+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	plug("7")
	d, err := s.disk(os.DevNull, numbers)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Still(d, null); err != nil {
		t.Errorf("the same: %v", err)
	}
	plug("8")
	if err := s.Still(d, null); !errors.Is(err, ErrChanged) {
		t.Errorf("another: %v", err)
	}
}
