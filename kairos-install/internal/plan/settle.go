package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sys/unix"
)

// When the program that made the partitions closes the disk, udev has the
// kernel read the table once more: the partitions go away and come back, at a
// moment that nobody knows. Whoever holds the BSD lock of the disk is left
// alone (https://systemd.io/BLOCK_DEVICE_LOCKING/), so it is held until the
// partitions are mounted. From then on the kernel itself refuses to drop them.

// deviceLock is the lock of a disk between Hold and Release.
type deviceLock struct {
	device string
	file   *os.File
}

// Hold locks the disk. If udev uses the disk, it waits for that.
type Hold struct{ lock *deviceLock }

func (h Hold) String() string { return "lock " + h.lock.device + " against udev" }

func (h Hold) Do(ctx context.Context, _ Host) error {
	f, err := os.Open(h.lock.device)
	if err != nil {
		return fmt.Errorf("lock the disk: %w", err)
	}
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err = <-locked:
	case <-ctx.Done(): // nothing ends the wait itself, but its lock is not kept
		go func() {
			<-locked
			f.Close()
		}()
		return fmt.Errorf("wait for the lock of %s: %w", h.lock.device, ctx.Err())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", h.lock.device, err), f.Close())
	}
	h.lock.file = f
	return nil
}

// Release unlocks the disk.
type Release struct{ lock *deviceLock }

func (r Release) String() string { return "unlock " + r.lock.device }

func (r Release) Do(context.Context, Host) error {
	return r.lock.file.Close()
}

// Appear checks that the kernel sees the new partitions at their places.
type Appear struct {
	Device     string
	Partitions []layout.Partition
}

func (a Appear) String() string {
	return fmt.Sprintf("check that the kernel sees %d partitions on %s", len(a.Partitions), a.Device)
}

func (a Appear) Do(_ context.Context, h Host) error {
	name := filepath.Base(a.Device)
	all, err := h.Disk.Partitions()
	if err != nil {
		return err
	}
	for _, want := range a.Partitions {
		found := false
		for _, got := range all {
			if got.Disk != name || got.Label != want.Label {
				continue
			}
			found = true
			if got.Path != want.Node || got.Size != want.Size {
				return fmt.Errorf("the kernel sees %s as %s with %s, planned was %s with %s: is somebody else changing %s?",
					want.Label, got.Path, terminal.Bytes(got.Size), want.Node, terminal.Bytes(want.Size), a.Device)
			}
		}
		if !found {
			err := fmt.Errorf("the kernel does not see the new partition %s (%s)", want.Node, want.Label)
			if strings.HasPrefix(name, "loop") {
				err = exit.Hint(err, "a loop device has to scan for partitions: losetup --partscan")
			}
			return err
		}
	}
	return nil
}
