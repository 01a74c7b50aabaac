// Package loop makes block devices of files and of parts of them: loop(4).
package loop

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Attach makes a read-only loop device with blocks of blockSize bytes of a part
// of a file or of another device, given in bytes; a size of 0 is all that follows.
// The device detaches itself once nobody uses it: neither the file returned nor
// a mount.
func Attach(file *os.File, blockSize uint32, offset, size int64) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach loop device: %w", err)
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("attach loop device: %w", err)
		}
		config := unix.LoopConfig{
			Fd:   uint32(file.Fd()),
			Size: blockSize,
			Info: unix.LoopInfo64{
				Offset: uint64(offset), Sizelimit: uint64(size),
				Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR,
			},
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return nil, fmt.Errorf("attach loop device %s: %w", loop.Name(), err)
		}
	}
}
