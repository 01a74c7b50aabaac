package cmd

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// discarded looks at an overlay whose upper layer is thrown away: lower and upper in a
// directory. What it returns tells what has come into upper since.
func discarded(dir string) (func() []string, error) {
	upper, lower := filepath.Join(dir, "upper"), filepath.Join(dir, "lower")
	before := map[string]bool{}
	err := filepath.WalkDir(upper, func(name string, _ fs.DirEntry, err error) error {
		before[name] = true
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() []string {
		var names []string
		filepath.WalkDir(upper, func(name string, d fs.DirEntry, err error) error {
			path := strings.TrimPrefix(name, upper)
			switch {
			case err != nil:
				return nil
			case !d.IsDir():
				if info, err := d.Info(); err == nil && !before[name] {
					if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0 {
						path += " (removed)"
					}
					names = append(names, path)
				}
			case !before[name]:
				// A directory is named where nothing in it is.
				_, err := os.Lstat(filepath.Join(lower, path))
				if entries, failed := os.ReadDir(name); err != nil && failed == nil && len(entries) == 0 {
					names = append(names, path)
				}
			}
			return nil
		})
		return names
	}, nil
}
