package cmd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-media/internal/fat"
	"github.com/kairos-io/toolkit/kairos-media/internal/medium"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
	"golang.org/x/sys/unix"
)

// tree writes a root file system that boots, and returns its source.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int{
		"usr/lib/modules/6.1.2/vmlinuz": 300000, "usr/lib/modules/6.1.2/initramfs.img": 500000, "usr/bin/tool": 4 << 20,
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi": 90000, "usr/lib/os-release": 0,
	} {
		file := filepath.Join(dir, name)
		content := strings.Repeat(name+"\n", size/(len(name)+1))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return "dir:" + dir
}

func needPrograms(t *testing.T) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, p := range append([]string{"mkfs.ext4", "debugfs"}, fat.Programs...) {
		if !run.Has(p) {
			t.Skipf("%s is missing: package %s", p, packages[p])
		}
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// Killed at any time, kairos-media leaves no FILE; what else it leaves, the next one
// removes.
func TestKilled(t *testing.T) {
	needPrograms(t)
	bin := toolkit(t, "kairos-upgrade", "kairos-media")
	image, dir := tree(t), t.TempDir()
	file := filepath.Join(dir, "m.iso")
	command := func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, "kairos-media"), "build", "--quiet", "--firmware", "uefi", "-o", file, image)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		return cmd
	}
	begin := time.Now()
	if out, err := command().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	whole := time.Since(begin)
	const kills = 8
	left := 0
	for i := range kills {
		for _, name := range []string{file, medium.ManifestPath(file)} {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		cmd := command()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(whole*time.Duration(i)/kills, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		_, missing := os.Stat(file)
		var ended *exec.ExitError
		if errors.As(err, &ended) && ended.Sys().(syscall.WaitStatus).Signaled() && missing == nil {
			// Killed between the rename and its end: it must be whole.
			if out, err := exec.Command(filepath.Join(bin, "kairos-media"), "verify", file).CombinedOutput(); err != nil {
				t.Errorf("kill %d leaves a FILE that is not whole: %s", i, out)
			}
		}
		for _, name := range names(t, dir) {
			if strings.HasPrefix(name, ".kairos-media-") {
				left++
			}
		}
	}
	if left == 0 {
		t.Error("no kill has hit the work")
	}
	if out, err := command().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if have := strings.Join(names(t, dir), " "); have != "m.iso m.iso.manifest.json" {
		t.Errorf("left behind: %s", have)
	}
}

// A disk that is too small is found out before the work, or, when it fills up in the
// middle, leaves nothing.
func TestNoSpace(t *testing.T) {
	needPrograms(t)
	t.Setenv("PATH", toolkit(t, "kairos-upgrade")+":"+os.Getenv("PATH"))
	image := tree(t)
	for _, size := range []string{"1m", "5m", "8m", "11m"} {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			t.Skipf("mount tmpfs: %v", err)
		}
		lie := func(string) (int64, error) { return 1 << 40, nil }
		for _, free := range []func(string) (int64, error){nil, lie} {
			b := medium.Builder{Step: func(string, string) func() { return func() {} }, Warn: t.Logf, Free: free}
			_, err := b.Build(t.Context(), medium.Request{Image: image, File: filepath.Join(dir, "m.iso"), Firmware: []string{medium.UEFI}})
			if err == nil {
				t.Errorf("%s: no error", size)
			}
			if free == nil && (exit.Code(err) != exit.NoSpace || !strings.Contains(err.Error(), "no space left in "+dir)) {
				t.Errorf("%s: %v", size, err)
			}
			if left := names(t, dir); len(left) > 0 {
				t.Errorf("%s: left behind: %q after %v", size, left, err)
			}
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
}
