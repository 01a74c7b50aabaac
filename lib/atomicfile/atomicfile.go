// Package atomicfile replaces files atomically and durably: after a power cut a file
// has its old content or its new one, never a mixture and never none.
package atomicfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix is the prefix of the names of temporary files. No other file of the
// toolkit has a name with this prefix.
const tempPrefix = ".#"

// IsTemp reports whether a file name is that of a temporary file, left by an
// interrupted write.
func IsTemp(name string) bool { return strings.HasPrefix(path.Base(name), tempPrefix) }

// Temp returns the temporary name under which a file is written, in the same directory.
func Temp(name string) string { return path.Join(path.Dir(name), tempPrefix+path.Base(name)) }

// Write writes data to a temporary file beside name, syncs it, renames it to name and
// syncs the directory. name is resolved beneath root.
func Write(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	return WriteFrom(root, name, strings.NewReader(string(data)), perm)
}

// WriteJSON writes a value as indented JSON with a newline at the end, in the way of Write.
func WriteJSON(root *os.Root, name string, v any, perm fs.FileMode) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return Write(root, name, append(data, '\n'), perm)
}

// WriteFrom is Write for content that comes from a reader.
//
// FAT has no journal. There, a rename changes one directory entry of 32 bytes in one
// sector; the file's first cluster, which the entry names, is written when the file is
// synced, not when the directory is. So WriteFrom syncs the directory first (the
// temporary name disappears, name still refers to the old file) and then the file (the
// entry refers to the new one). In the other order, a power cut in between left two
// names with the same clusters. Furthermore, FAT frees the clusters of the replaced
// file when its last descriptor is closed: WriteFrom holds the old file open until the
// end, or its name could refer to freed clusters after a power cut.
func WriteFrom(root *os.Root, name string, r io.Reader, perm fs.FileMode) (err error) {
	temp := Temp(name)
	if replaced, err := root.Open(name); err == nil {
		defer replaced.Close()
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, Remove(root, temp))
		}
		f.Close()
	}()
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// FAT has no permissions; there the mode is what the mount says.
	if err := f.Chmod(perm); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	if err := root.Rename(temp, name); err != nil {
		return err
	}
	return syncName(root, name, f)
}

// Rename renames a file within its directory, durably. It replaces an existing file of
// the new name in the way of WriteFrom.
func Rename(root *os.Root, from, to string) error {
	f, err := root.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if replaced, err := root.Open(to); err == nil {
		defer replaced.Close()
	}
	if err := root.Rename(from, to); err != nil {
		return err
	}
	return syncName(root, to, f)
}

// Remove removes files durably; a file that does not exist is no error. FAT frees the
// clusters of a file when its last descriptor is closed, and a power cut could leave a
// name whose clusters are free or belong to another file by then: Remove holds each
// file open until the removal of its name is on the disk.
func Remove(root *os.Root, names ...string) error {
	dirs := map[string]bool{}
	for _, name := range names {
		switch f, err := root.Open(name); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil:
			defer f.Close()
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		dirs[path.Dir(name)] = true
	}
	for dir := range dirs {
		if err := SyncDir(root, dir); err != nil {
			return err
		}
	}
	return nil
}

// syncName makes the new name of an open file durable.
func syncName(root *os.Root, name string, f *os.File) error {
	if err := SyncDir(root, path.Dir(name)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return nil
}

// SyncDir makes changes of names in a directory durable.
func SyncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("sync directory %s: %w", name, err)
	}
	return nil
}

// SyncFS writes all unwritten data of the file system that f is on to its disk:
// syncfs(2).
func SyncFS(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync file system of %s: %w", f.Name(), err)
	}
	return nil
}
