package bus

import (
	"fmt"
	"os"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// file takes ownership of a file descriptor that came with a call; the service closes
// it. The kernel checked the caller's permissions when the caller opened it: a service
// that opened the file again by its path in /proc would circumvent that check.
func file(fd dbus.UnixFD) (*os.File, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("take a file descriptor: %w", err)
	}
	return os.NewFile(uintptr(own), "file descriptor of the caller"), nil
}
