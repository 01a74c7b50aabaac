package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/workspace"
	"golang.org/x/sys/unix"
)

// disk is an ext4 file system on a block device of its own, so that what is
// written to the device can be told from what the rest of the machine writes.
type disk struct {
	t         *testing.T
	dir, loop string
}

// newDisk makes one of size bytes, mounted at dir. It needs root and a kernel
// with ext4 and loop devices.
func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	work, err := os.MkdirTemp("/tmp", "kairos-bench-disk-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(work) })
	image := filepath.Join(work, "disk.raw")
	must(t, os.WriteFile(image, nil, 0o644))
	must(t, os.Truncate(image, size))
	// As kairos-install makes it, and nothing left to be written later.
	_, err = workspace.RunTool(t.Context(), "mkfs.ext4", "-q", "-O", "verity", "-m0",
		"-E", "lazy_itable_init=0,lazy_journal_init=0", image)
	must(t, err)
	d := &disk{t: t, dir: filepath.Join(work, "mnt")}
	must(t, os.Mkdir(d.dir, 0o755))
	loop, err := workspace.Run(exec.CommandContext(t.Context(), "losetup", "--find", "--show", "--direct-io=on", image))
	if err != nil {
		t.Skipf("no loop device to measure at: %v", err)
	}
	d.loop = strings.TrimSpace(loop)
	t.Cleanup(func() { exec.Command("losetup", "--detach", d.loop).Run() })
	if err := unix.Mount(d.loop, d.dir, "ext4", unix.MS_NOATIME, ""); err != nil {
		t.Skipf("mount ext4 to measure at: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

// written returns the bytes that the device has been asked to write until now,
// once all that was written to files has got there (Documentation/block/stat.rst:
// the seventh number counts sectors of 512 bytes).
func (d *disk) written() float64 {
	d.t.Helper()
	dir, err := os.Open(d.dir)
	must(d.t, err)
	defer dir.Close()
	must(d.t, unix.Syncfs(int(dir.Fd())))
	stat, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.loop), "stat"))
	must(d.t, err)
	fields := strings.Fields(string(stat))
	if len(fields) < 7 {
		d.t.Fatalf("%s: %q", d.loop, stat)
	}
	var sectors float64
	_, err = fmt.Sscan(fields[6], &sectors)
	must(d.t, err)
	return sectors * 512
}
