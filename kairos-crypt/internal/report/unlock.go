package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/lib/atomicfile"
)

// UnlockDir is where the ends of unlocks are kept until the machine is turned
// off, for root alone: one file for each device. They come from the initrd too.
const UnlockDir = "/run/kairos/crypt/unlocks"

// maxUnlock bounds such a file, in bytes.
const maxUnlock = 64 << 10

// name is the file of a device.
func name(device string) string { return filepath.Base(device) + ".json" }

// Write keeps how the unlock of a device ended.
func (u Unlock) Write(directory, device string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	data, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return atomicfile.Write(root, name(device), data, 0o600)
}

// ReadUnlock returns how the last unlock of a device ended, nil where nobody
// has tried.
func ReadUnlock(directory, device string) (*Unlock, error) {
	file, err := os.Open(filepath.Join(directory, name(device)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxUnlock))
	if err != nil {
		return nil, err
	}
	var u Unlock
	if err := json.Unmarshal(data, &u); err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return &u, nil
}
