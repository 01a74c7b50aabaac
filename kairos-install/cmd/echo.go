package cmd

import (
	"os"

	"golang.org/x/sys/unix"
)

// hideEcho has a terminal show nothing of what is typed, until restore is called. What
// was typed ahead stays.
func hideEcho(tty *os.File) (restore func(), err error) {
	old, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *old
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, old) }, nil
}
