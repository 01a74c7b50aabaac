// Package sdnotify tells the service manager how a program is getting on:
// sd_notify(3).
package sdnotify

import (
	"fmt"
	"os"
	"time"

	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sys/unix"
)

// Status tells the service manager what the program is doing, for systemctl
// status: STATUS= of sd_notify(3). Without a service manager it does nothing.
func Status(format string, args ...any) {
	// A newline would begin another assignment.
	_ = notify("STATUS=" + terminal.Line(fmt.Sprintf(format, args...)))
}

// ExtendTimeout asks the service manager for that much more time before it
// gives up on the program: EXTEND_TIMEOUT_USEC= of sd_notify(3).
func ExtendTimeout(d time.Duration) {
	_ = notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// Stopping tells the service manager that the program is about to end:
// STOPPING=1 of sd_notify(3). From then on a request to start it waits until
// it is gone.
func Stopping() { _ = notify("STOPPING=1") }

// notify sends one datagram to NOTIFY_SOCKET. It speaks the protocol of
// sd_notify(3) without the net package, which would add half a megabyte to
// the programs in the initrd.
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
