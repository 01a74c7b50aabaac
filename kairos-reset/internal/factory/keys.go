package factory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
)

// luksHeader is the size of the area with the keys at the start of a device, in bytes:
// what cryptsetup(8) reserves for LUKS2 by default, and more than LUKS1 has.
const luksHeader = 16 << 20

// luksMagic is the magic number of a LUKS header: LUKS2 On-Disk Format Specification,
// 2.1.
var luksMagic = []byte("LUKS\xba\xbe")

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
	f, err := os.Open(node)
	if err != nil {
		return false, err
	}
	defer f.Close()
	magic := make([]byte, len(luksMagic))
	if _, err := f.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read %s: %w", node, err)
	}
	return bytes.Equal(magic, luksMagic), nil
}

// isProgramError reports whether a program ran, or could have run, and failed, as
// opposed to an interruption.
func isProgramError(err error) bool {
	var failed *run.Error
	return errors.As(err, &failed)
}
