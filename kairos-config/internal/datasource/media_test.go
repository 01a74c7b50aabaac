package datasource

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRealMedium mounts a real file system.
// It can't show ISO 9660 and FAT, which need a kernel that has them.
func TestRealMedium(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	content := t.TempDir()
	if err := os.WriteFile(filepath.Join(content, "user-data"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// A link on the medium leads nowhere else.
	if err := os.Symlink("/etc/hostname", filepath.Join(content, "meta-data")); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "medium.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 4<<20); err != nil {
		t.Fatal(err)
	}
	runTool(t, "/usr/sbin/mkfs.ext4", "-q", "-F", "-L", "cidata", "-d", content, image)
	device := runTool(t, "/usr/sbin/losetup", "--find", "--show", "--read-only", image)
	t.Cleanup(func() { runTool(t, "/usr/sbin/losetup", "--detach", device) })

	root := machine(t, map[string]string{"dev/disk/by-label/x": ""})
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(root.Path(), "dev/disk/by-label/cidata"), unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		t.Skip("needs device nodes: ", err)
	}
	got, err := Fetch(t.Context(), []string{"nocloud"}, Options{Root: root})
	if err != nil || string(got.UserData.Text) != config || got.Hostname != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// run runs a program and returns what it printed; without it the test is
// skipped.
func runTool(t *testing.T, argv ...string) string {
	t.Helper()
	if _, err := os.Stat(argv[0]); err != nil {
		t.Skip(err)
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}
