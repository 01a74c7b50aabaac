// Package mountns gives a program a mount namespace of its own, so that nothing
// that it mounts outlives it.
package mountns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespaceVariable tells the program after its exec which mount namespace it
// made for itself.
const namespaceVariable = "KAIROS_MOUNT_NAMESPACE"

// Enter moves the process into a mount namespace of its own and puts
// an empty tmpfs on work. Everything mounted from then on is seen by this
// process and its children alone and goes away with them, even when they are
// killed.
//
// A namespace belongs to a thread, so the program makes one on this thread and
// executes itself: the new image has that thread only.
//
// The system does not see what is used in the namespace. Mount points in keep
// stay in use there as long as the process lives, so that an automount among
// them does not expire.
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
