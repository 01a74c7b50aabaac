package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/lib/ext4"
	"github.com/kairos-io/toolkit/lib/run"
)

// sizeOf returns the size of a device or file in bytes.
func sizeOf(device string) (int64, error) {
	file, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.Seek(0, io.SeekEnd)
}

// MakeRoom checks the ext4 file system on a device and, if needed, shrinks it so that
// room bytes are free at the end of the device. It can be repeated after an
// interruption: e2fsck repairs what resize2fs leaves.
func MakeRoom(ctx context.Context, device string, room int64) error {
	total, err := sizeOf(device)
	if err != nil {
		return err
	}
	fs, err := ext4.Read(device)
	if err != nil {
		return err
	}
	if err := check(ctx, device); err != nil {
		return err
	}
	if fs.Size <= total-room {
		return nil
	}
	wanted := (total - room) / fs.BlockSize * fs.BlockSize
	if _, err := (run.Runner{Files: cryptsetup.Held(ctx)}).Output(ctx, "resize2fs", device, strconv.FormatInt(wanted/1024, 10)+"K"); err != nil {
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
