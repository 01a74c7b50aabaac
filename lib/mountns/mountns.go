// Package mountns moves a program into a private mount namespace, so that its mounts
// disappear with it.
package mountns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespaceVariable is the environment variable that tells the re-executed program
// which mount namespace it created.
const namespaceVariable = "KAIROS_MOUNT_NAMESPACE"

// Enter moves the process into a private mount namespace and mounts an empty tmpfs on
// work. Only this process and its children see later mounts, which disappear with them,
// even when they are killed.
//
// A namespace belongs to a thread. So Enter creates one on the current thread and
// executes the program again: the new process image has that thread only.
//
// Processes outside don't notice that mounts are in use within the namespace. Enter
// keeps the mount points in keep busy outside too, so that an automount among them does
// not expire.
func Enter(work string, keep ...string) error {
	runtime.LockOSThread()
	now, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if os.Getenv(namespaceVariable) == now {
		runtime.UnlockOSThread()
		return os.Unsetenv(namespaceVariable)
	}
	for _, path := range keep {
		// Inherited by the new image, and not closed there.
		if _, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
			return fmt.Errorf("make a mount namespace: keep %s: %w", path, err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// Slave, not private: what the system unmounts disappears here too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the mount namespace: %w", err)
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", work, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", work, err)
	}
	mine, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := os.Setenv(namespaceVariable, mine); err != nil {
		return err
	}
	err = unix.Exec("/proc/self/exe", os.Args, os.Environ())
	return fmt.Errorf("execute itself in a mount namespace: %w", err)
}
