package cryptsetup

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// keyName is the name of the volume key in its keyring.
const keyName = "kairos-crypt"

// OpenReading maps a volume as Open does and reads its volume key into a buffer, with
// one key derivation for both. n is 0 where cryptsetup (before 2.7) or the kernel
// cannot return it; the volume is open then as well.
func OpenReading(ctx context.Context, device, name string, slot int, key, volumeKey []byte) (n int, err error) {
	err = inSession(func() (err error) {
		if err = open(ctx, device, name, slot, key, "--link-vk-to-keyring", "@s::%user:"+keyName); err == nil {
			n = read(volumeKey)
		}
		return err
	})
	if err == nil || errors.Is(err, ErrWrongKey) || errors.Is(err, ErrExists) || ctx.Err() != nil {
		return n, err
	}
	return 0, Open(ctx, device, name, slot, key)
}

// inSession calls do with a new session keyring, which child processes inherit and
// which disappears with its keys when they and do have ended: keyrings(7).
func inSession(do func() error) error {
	ended := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with its goroutine, and so does its hold
		// on the keyring.
		runtime.LockOSThread()
		// x/sys would give it a name, by which others of the same user can join it.
		if _, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); errno != 0 {
			ended <- fmt.Errorf("session keyring: %w", errno)
			return
		}
		ended <- do()
	}()
	return <-ended
}

// read reads the volume key from the session keyring and revokes it. It returns its
// length, 0 when there is none.
func read(volumeKey []byte) int {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", keyName, 0)
	if err != nil {
		return 0
	}
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, volumeKey, 0)
	_, _ = unix.KeyctlInt(unix.KEYCTL_REVOKE, id, 0, 0, 0)
	if err != nil || n > len(volumeKey) {
		return 0
	}
	return n
}
