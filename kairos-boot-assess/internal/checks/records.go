package checks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
)

// maxRecord bounds a record, in bytes.
const maxRecord = 16 << 20

// records calls do with each record of a directory beneath root, in the order of
// their names. Where there is no directory, there are none.
func records[T any](root, directory string, do func(T)) error {
	system, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer system.Close()
	dir, err := system.Open(directory)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if path.Ext(name) != ".json" {
			continue
		}
		var record T
		name = path.Join(directory, name)
		data, err := readBounded(system, name, maxRecord)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &record); err != nil {
			return fmt.Errorf("read /%s: %w", name, err)
		}
		do(record)
	}
	return nil
}

// readBounded reads a file of the system, at most limit bytes of it.
func readBounded(system *os.Root, name string, limit int) ([]byte, error) {
	f, err := system.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("read /%s: larger than %d bytes", name, limit)
	}
	return data, err
}
