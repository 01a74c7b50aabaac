// Package volume handles an encrypted volume and its key slots: what they are, and how
// they are added, tested and removed so that the owner is never locked out.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/lib/lock"
	"golang.org/x/sys/unix"
)

// Volume is a LUKS2 volume with its header as last read.
type Volume struct {
	Device string
	Header *luks.Header
	Slots  []Slot // in order of their numbers
}

// Open reads a volume's header. For a device without one it returns luks.ErrNotLUKS2.
func Open(device string) (*Volume, error) {
	v := &Volume{Device: device}
	return v, v.Reload()
}

// Name returns the name of the volume for people: its label, if it has one.
func (v *Volume) Name() string {
	if v.Header.Label != "" {
		return v.Header.Label
	}
	return v.Device
}

// Finish completes an encryption in place of which only the end is missing: see
// luks.Finish. The device must not be in use.
func (v *Volume) Finish() error {
	file, err := os.OpenFile(v.Device, os.O_RDWR|unix.O_EXCL, 0) // of a block device: nobody else has it
	if err != nil {
		return err
	}
	return errors.Join(luks.Finish(file), file.Close())
}

// Reload reads the header again, after a change.
func (v *Volume) Reload() error {
	file, err := os.Open(v.Device)
	if err != nil {
		return err
	}
	defer file.Close()
	v.Header, err = luks.Read(file)
	if err != nil {
		return fmt.Errorf("%s: %w", v.Device, err)
	}
	v.Slots = slots(&v.Header.Metadata)
	return nil
}

// ErrBusy says that another process is changing the volume.
var ErrBusy = errors.New("another kairos-crypt changes this volume")

// Lock locks a device against other kairos-crypt processes until the returned function
// is called, or until this process and all programs that it started with the returned
// context have ended. directory is the directory of the locks.
func Lock(ctx context.Context, directory, device string) (locked context.Context, unlock func(), err error) {
	var stat unix.Stat_t
	if err := unix.Stat(device, &stat); err != nil {
		return nil, nil, &os.PathError{Op: "stat", Path: device, Err: err}
	}
	name := fmt.Sprintf("file-%d-%d", stat.Dev, stat.Ino)
	if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		name = fmt.Sprintf("block-%d-%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	file, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	err = lock.Take(ctx, file, func() error { return fmt.Errorf("%s: %w", device, ErrBusy) })
	if err != nil {
		file.Close()
		if errors.Is(err, ErrBusy) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("lock %s: %w", device, err)
	}
	return cryptsetup.Hold(ctx, file), func() { file.Close() }, nil
}

// material returns the key material of a slot on the disk, so that its erasure can be
// verified.
func (v *Volume) material(slot int) ([]byte, error) {
	place := v.Header.Metadata.Keyslots[slot]
	const enough = 64 << 10 // of 256 KiB
	file, err := os.Open(v.Device)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.NewSectionReader(file, place.Offset, min(place.Size, enough)))
}
