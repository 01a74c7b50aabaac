package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// changing are the accesses that change something: landlock(7). Reading and
// executing stay as they are.
const changing = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
	unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
	unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
	unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER

// Versions of Landlock's interface: REFER came with 2, TRUNCATE with 3, scopes with 6.
const (
	versionRefer    = 2
	versionTruncate = 3
	versionScope    = 6
)

// scoped is what reaches only processes that are confined with this one.
const scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET

// landlockVersion is 0 where the kernel has no Landlock, or doesn't run it, or
// where whoever started the program forbids the call: SystemCallFilter= of an
// older unit does.
func landlockVersion() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP || errno == unix.EPERM {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("confine: landlock: %w", errno)
	}
	return int(version), nil
}

func landlock(write []string) error {
	version, err := landlockVersion()
	if err != nil || version < versionRefer {
		return err
	}
	handled := uint64(changing)
	if version >= versionTruncate {
		handled |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	size := unsafe.Sizeof(attr.Handled_access_fs) // of the first version of the struct, which every kernel knows
	if version >= versionScope {
		attr.Scoped, size = scoped, unsafe.Sizeof(attr)
	}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("confine: landlock: make a ruleset: %w", errno)
	}
	defer unix.Close(int(ruleset))
	// What is no directory takes no other access.
	file := handled & (unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE)
	if err := allow(int(ruleset), os.DevNull, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("confine: landlock: allow %s: %w", os.DevNull, err)
	}
	for _, dir := range write {
		if err := allow(int(ruleset), dir, handled); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("confine: landlock: allow %s: %w", dir, err)
		}
	}
	return all("landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0)
}

func allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
