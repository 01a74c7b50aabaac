// Package harden protects the secrets in a program's memory.
package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Process protects copies of secrets that libraries make in memory: the process writes
// no core dump, no other process of its user may trace it, and, as root, none of its
// memory is swapped. Call it at the start of a program.
func Process() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	// ONFAULT: what is used, not the gigabytes that the runtime has reserved.
	// Without the right to lock so much it is refused as a whole.
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	return nil
}
