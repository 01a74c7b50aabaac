// Package report holds the types that the toolkit's programs exchange: the files
// beneath /run/kairos, and the objects that --json prints. Writers and readers share
// them.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// Dir is the directory in which programs leave information about this boot for other
// programs.
const Dir = "/run/kairos"

// limit is how large a file may be, in bytes.
const limit = 16 << 20

// Read reads a JSON file beneath root.
func Read[T any](root, file string) (v T, err error) {
	system, err := os.OpenRoot(root)
	if err != nil {
		return v, err
	}
	defer system.Close()
	return in[T](system, file)
}

func in[T any](system *os.Root, file string) (v T, err error) {
	data, err := bounded.In(system, beneath(file), limit)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("read %s: %w", file, err)
	}
	return v, nil
}

func beneath(file string) string { return strings.TrimPrefix(path.Clean(file), "/") }

// ReadDir reads the files NAME.json of a directory beneath root, sorted by name. A
// directory that doesn't exist has none.
func ReadDir[T any](root, directory string) ([]T, error) {
	system, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer system.Close()
	dir, err := system.Open(beneath(directory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var list []T
	for _, name := range names {
		if path.Ext(name) != ".json" || atomicfile.IsTemp(name) {
			continue
		}
		v, err := in[T](system, path.Join(directory, name))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// Parse parses the output of a toolkit command with --json.
func Parse[T any](command string, out []byte) (v T, err error) {
	if err := json.Unmarshal(out, &v); err != nil {
		return v, fmt.Errorf("read the answer of %s: %w", command, err)
	}
	return v, nil
}
