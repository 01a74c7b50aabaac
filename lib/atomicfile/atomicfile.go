// Package atomicfile replaces files so that a power cut leaves the old content
// or the new, never a mixture and never neither.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix starts the names of files that are being written. They are
// never valid names of anything else.
const tempPrefix = ".#"

// IsTemp reports whether a file name is that of an unfinished write.
func IsTemp(name string) bool { return strings.HasPrefix(path.Base(name), tempPrefix) }

// Temp returns the name, beside a file's own, that it has while it is written.
func Temp(name string) string { return path.Join(path.Dir(name), tempPrefix+path.Base(name)) }

// Write writes data under a temporary name beside name, syncs it, renames it
// and syncs the directory. name is resolved beneath root.
func Write(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	return WriteFrom(root, name, strings.NewReader(string(data)), perm)
}

// WriteFrom is Write for content that comes from a reader.
//
// FAT has no journal; there a directory entry, of 32 bytes in one sector, is
// what flips from old to new, and its first cluster is written with the file
// that it is of, not with the directory. So the directory is synced first (the
// temporary name is gone, the name still stands for the old file) and then the
// file (the entry has the new one): the other way round, a power cut in between
// left two names with the same clusters. And the clusters of what is replaced
// are freed as soon as nobody has it open: it is held open until the end, or
// the old name could be left with freed clusters.
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
		f.Close()
		if err != nil {
			err = errors.Join(err, ignoreNotExist(root.Remove(temp)))
		}
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

// Rename gives a file another name in the same directory, and makes that
// durable. What has the new name is replaced, in the way of WriteFrom.
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

// SyncDir makes the names in a directory durable.
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

// SyncFS writes out everything of the file system that f is on.
func SyncFS(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync file system of %s: %w", f.Name(), err)
	}
	return nil
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
