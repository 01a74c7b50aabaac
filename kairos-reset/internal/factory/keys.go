package factory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
)

// luksHeader is the size of the area with the keys at the start of a device, in bytes:
// what cryptsetup(8) reserves for LUKS2 by default, and more than LUKS1 has.
const luksHeader = 16 << 20

// EraseKeys makes the encrypted data on a device unreadable for good: it erases the key
// slots, then the whole header. Without a LUKS header it does nothing.
func EraseKeys(ctx context.Context, execute Run, node string) error {
	locked, err := isLUKS(node)
	if err != nil || !locked {
		return err
	}
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("erase keys: %w", err)
	}
	defer f.Close()
	// It looks whether they are gone. What it can't do any more, on a damaged
	// header, overwriting does.
	_, failed := execute(ctx, recoverykey.Program, "wipe", "--yes", "--quiet", node)
	if failed != nil && !isProgramError(failed) {
		return failed
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("erase keys of %s: %w", node, err)
	}
	zero := make([]byte, 1<<20)
	// Backwards: as long as anything is left, the magic is there to find it by.
	for at := min(end, luksHeader); at > 0; {
		n := min(at, int64(len(zero)))
		at -= n
		if _, err := f.WriteAt(zero[:n], at); err != nil {
			return fmt.Errorf("erase keys of %s: %w", node, err)
		}
		if at <= int64(len(zero)) { // the rest before the magic
			if err := f.Sync(); err != nil {
				return fmt.Errorf("erase keys of %s: %w", node, err)
			}
		}
	}
	return nil
}

// isLUKS reports whether a device starts with a LUKS header.
func isLUKS(node string) (bool, error) {
	holds, err := disk.Probe(node)
	return holds == disk.LUKSVolume, err
}

// isProgramError reports whether a program ran, or could have run, and failed, as
// opposed to an interruption.
func isProgramError(err error) bool {
	var failed *run.Error
	return errors.As(err, &failed)
}
