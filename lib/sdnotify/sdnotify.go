// Package sdnotify sends the state of a program to the service manager: sd_notify(3).
package sdnotify

import (
	"fmt"
	"os"
	"time"

	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sys/unix"
)

// Status sets the status text of the service, for systemctl status: STATUS= of
// sd_notify(3). Without a service manager it does nothing.
func Status(format string, args ...any) {
	// A newline would begin another assignment.
	_ = notify("STATUS=" + terminal.Line(fmt.Sprintf(format, args...)))
}

// ExtendTimeout asks the service manager for more time before it gives up on the
// program: EXTEND_TIMEOUT_USEC= of sd_notify(3).
func ExtendTimeout(d time.Duration) {
	_ = notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// Stopping says that the program is about to end: STOPPING=1 of sd_notify(3). From then
// on a request to start the service waits until the program has ended.
func Stopping() { _ = notify("STOPPING=1") }

// notify sends one datagram to NOTIFY_SOCKET. It implements the protocol without the
// net package, which would add half a megabyte to programs of the initrd.
func notify(state string) error {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: addr})
}
