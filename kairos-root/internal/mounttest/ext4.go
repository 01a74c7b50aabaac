package mounttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Ext4 creates a block device with an ext4 file system of 32 MiB and the content of a
// directory ("" for none), until the end of the test.
func Ext4(t testing.TB, content string) (device string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(32 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	argv := []string{"/usr/sbin/mkfs.ext4", "-q", "-F"}
	if content != "" {
		argv = append(argv, "-d", content)
	}
	run(t, append(argv, file)...)
	device = run(t, "/usr/sbin/losetup", "--find", "--show", file)
	t.Cleanup(func() { run(t, "/usr/sbin/losetup", "--detach", device) })
	return device
}

// run runs a program and returns its output; it skips the test where the program is
// missing.
func run(t testing.TB, argv ...string) string {
	t.Helper()
	if _, err := os.Stat(argv[0]); err != nil {
		t.Skip(err)
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
