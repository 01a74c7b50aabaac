package volume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/lib/run"
)

// ErrNotExt4 says that a device holds no ext4 file system.
var ErrNotExt4 = errors.New("no ext4 file system")

// sizeOf returns the size of a device or file in bytes.
func sizeOf(device string) (int64, error) {
	file, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.Seek(0, io.SeekEnd)
}

// ext4Size returns the size of the file system on a device, from its superblock, and
// its block size, both in bytes.
func ext4Size(device string) (size, block int64, err error) {
	file, err := os.Open(device)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	super := make([]byte, 1024) // struct ext4_super_block, at 1024
	if _, err := file.ReadAt(super, 1024); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", device, ErrNotExt4)
	}
	little := binary.LittleEndian
	if little.Uint16(super[0x38:]) != 0xef53 || little.Uint32(super[0x18:]) > 6 {
		return 0, 0, fmt.Errorf("%s: %w", device, ErrNotExt4)
	}
	block = 1024 << little.Uint32(super[0x18:])
	blocks := int64(little.Uint32(super[0x4:]))
	const incompat64bit = 0x80
	if little.Uint32(super[0x60:])&incompat64bit != 0 {
		blocks |= int64(little.Uint32(super[0x150:])&0xffff) << 32
	}
	return blocks * block, block, nil
}

// MakeRoom checks the ext4 file system on a device and, if needed, shrinks it so that
// room bytes are free at the end of the device. It can be repeated after an
// interruption: e2fsck repairs what resize2fs leaves.
func MakeRoom(ctx context.Context, device string, room int64) error {
	total, err := sizeOf(device)
	if err != nil {
		return err
	}
	size, block, err := ext4Size(device)
	if err != nil {
		return err
	}
	if err := check(ctx, device); err != nil {
		return err
	}
	if size <= total-room {
		return nil
	}
	wanted := (total - room) / block
	if _, err := (run.Runner{Files: cryptsetup.Held(ctx)}).Output(ctx, "resize2fs", device, strconv.FormatInt(wanted*block/1024, 10)+"K"); err != nil {
		return fmt.Errorf("shrink the file system on %s: %w", device, err)
	}
	if info, err := os.Stat(device); err == nil && info.Mode().IsRegular() { // resize2fs shortens files
		return os.Truncate(device, total)
	}
	return nil
}

// check repairs a file system as at every boot. Exit status 1 of e2fsck means "errors
// were corrected".
func check(ctx context.Context, device string) error {
	_, err := run.Runner{Files: cryptsetup.Held(ctx)}.Output(ctx, "e2fsck", "-f", "-p", device)
	var failed *run.Error
	if errors.As(err, &failed) && failed.Status == 1 {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("e2fsck is not installed")
	}
	return err
}
