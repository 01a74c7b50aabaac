package bus

import (
	"fmt"
	"os"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// file takes a file descriptor that came with a call: the service's own, which
// it closes. What a caller may do with a descriptor was decided when the caller
// opened it; a service that opens it again by a path in /proc would undo that.
func file(fd dbus.UnixFD) (*os.File, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("take a file descriptor: %w", err)
	}
	return os.NewFile(uintptr(own), "file descriptor of the caller"), nil
}
