// Package openat2 calls openat2(2) until it succeeds or fails for good.
package openat2

import (
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a name beneath a directory and returns the file's descriptor. Flags are O_*, how the name is resolved are
// RESOLVE_*: magic links, as those of /proc, are never followed. The error is an errno.
func Open(dir *os.File, name string, flags int, mode uint32, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err = unix.Openat2(int(dir.Fd()), name, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename raced with the resolution
			return fd, err
		}
	}
}
