// Package confine takes from this process what it does not need while it reads
// what others made: manifests, layers, tables of contents and archives. Whoever
// finds a mistake in what decodes them gets a process without capabilities, that
// can't mount, enter other namespaces, look into other processes or load
// anything into the kernel, and that writes only where an image belongs.
//
// Sockets are those of the Internet, and signals reach only what it started.
//
// What it cannot do: the process still reads what root's files are, and talks
// to the network, because it fetches what it decodes.
package confine

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process confines all threads of this process, for good, and with them what
// it executes. What lies beneath the directories in write stays writable; those
// that don't exist are left out, and /dev/null is always one. Of the capabilities it keeps only those in
// keep, as far as it has them.
//
// What a kernel does not have is left out: Landlock before Linux 5.19, where
// it forbids to move files between directories. Any other failure is an error,
// after which the process is confined in part.
func Process(write []string, keep ...uintptr) error {
	// Seccomp and Landlock demand it of who is not privileged.
	if err := all("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return err
	}
	if err := landlock(write); err != nil {
		return err
	}
	if err := dropCapabilities(keep); err != nil {
		return err
	}
	program, pin := filter()
	defer runtime.KeepAlive(pin)
	return all("seccomp", unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(program)))
}

// all makes a system call on each thread.
func all(what string, call, a, b, c uintptr) error {
	if !Threads {
		return fmt.Errorf("confine: %w", ErrThreads)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return fmt.Errorf("confine: %s: %w", what, errno)
	}
	return nil
}

// ErrThreads says that the program was built with cgo, whose threads the
// runtime does not know.
var ErrThreads = errors.New("a program with cgo cannot confine all its threads")

// dropCapabilities takes all capabilities but keep out of every set.
func dropCapabilities(keep []uintptr) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("confine: capget: %w", err)
	}
	var kept [2]uint32
	for _, c := range keep {
		kept[c/32] |= 1 << (c % 32)
	}
	for i := range sets {
		sets[i].Permitted &= kept[i]
		sets[i].Effective = sets[i].Permitted
		sets[i].Inheritable = 0
	}
	err := all("capset", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&sets)
	return err
}
