package digest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// normalise makes of an unpacked image the tree that has one digest
// everywhere: /run, /boot and /sysroot empty and of /usr's time, the root
// directory with /usr's metadata.
func normalise(t *testing.T, root string) {
	t.Helper()
	var usr unix.Stat_t
	must(t, unix.Lstat(filepath.Join(root, "usr"), &usr))
	for _, name := range []string{"run", "boot", "sysroot"} {
		dir := filepath.Join(root, name)
		entries, err := os.ReadDir(dir)
		if os.IsNotExist(err) {
			continue
		}
		must(t, err)
		for _, e := range entries {
			must(t, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
		setTime(t, dir, usr.Mtim)
	}
	must(t, os.Chmod(root, os.FileMode(usr.Mode&0o777)))
	must(t, os.Chown(root, int(usr.Uid), int(usr.Gid)))
	setTime(t, root, usr.Mtim)
}

func setTime(t *testing.T, path string, at unix.Timespec) {
	t.Helper()
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}
