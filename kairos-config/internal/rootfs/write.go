package rootfs

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Keep leaves an attribute as it is, or as new files get it.
const Keep = -1

// Attr is who may do what with a file or directory. Keep in a field leaves it
// alone; what is new then belongs to the caller, mode 0644 or 0755.
type Attr struct {
	Mode     int // permissions with setuid, setgid and sticky: 0 to 07777
	UID, GID int
}

// KeepAll leaves all attributes alone.
var KeepAll = Attr{Keep, Keep, Keep}

func (a Attr) mode(fallback uint32) uint32 {
	if a.Mode == Keep {
		return fallback
	}
	return uint32(a.Mode)
}

// apply gives an open file its attributes and reports whether anything
// changed. Owner first: chown(2) clears the setuid bit.
func (a Attr) apply(f *os.File) (changed bool, err error) {
	var st unix.Stat_t
	fd := int(f.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if (a.UID != Keep && uint32(a.UID) != st.Uid) || (a.GID != Keep && uint32(a.GID) != st.Gid) {
		if err := unix.Fchown(fd, a.UID, a.GID); err != nil {
			return false, fmt.Errorf("set owner %d:%d: %w", a.UID, a.GID, err)
		}
		changed = true
	}
	if a.Mode != Keep && (changed || uint32(a.Mode) != st.Mode&07777) {
		if err := unix.Fchmod(fd, uint32(a.Mode)); err != nil {
			return changed, fmt.Errorf("set mode %04o: %w", a.Mode, err)
		}
		changed = true
	}
	return changed, nil
}

// maxCompare bounds the files that are compared before they are replaced.
const maxCompare = 16 << 20

// WriteFile gives a file content and attributes, and reports whether anything
// changed. The directory must exist. A regular file is replaced by renaming a
// complete, synced one over it: a power cut leaves the old content or the new.
// Where that can't be (the path is a symbolic link, a mount point, or in /proc
// or /sys) the file is written in place.
func (r *Root) WriteFile(name string, data []byte, attr Attr) (changed bool, err error) {
	dir, base, err := r.parent(name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return true, named(replace(dir, base, data, attr, nil), name)
	case err != nil:
		return false, &fs.PathError{Op: "stat", Path: name, Err: err}
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		changed, err = r.writeInPlace(name, data, attr)
		return changed, named(err, name)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return false, &fs.PathError{Op: "write", Path: name, Err: errors.New("not a regular file")}
	}
	if same, changed, err := unchanged(dir, base, data, attr, st.Size); same {
		return changed, named(err, name)
	}
	err = replace(dir, base, data, attr, &st)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
		changed, err = r.writeInPlace(name, data, attr)
		return changed, named(err, name)
	}
	return err == nil, named(err, name)
}

// named says which file an error is about, unless the error does.
func named(err error, name string) error {
	var pathError *fs.PathError
	if err == nil || errors.As(err, &pathError) {
		return err
	}
	return &fs.PathError{Op: "write", Path: name, Err: err}
}

// parent opens the directory of a path, which must be absolute.
func (r *Root) parent(name string) (dir *os.File, base string, err error) {
	name = strings.TrimRight(name, "/")
	base = path.Base(name)
	if !strings.HasPrefix(name, "/") || base == ".." || base == "." {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: errors.New("not an absolute path of a file")}
	}
	dir, err = r.open(name[:len(name)-len(base)], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return dir, base, err
}

// unchanged reports whether a file has this content already; then it gives it
// the attributes.
func unchanged(dir *os.File, base string, data []byte, attr Attr, size int64) (same, changed bool, err error) {
	if size != int64(len(data)) || size > maxCompare {
		return false, false, nil
	}
	f, err := openIn(dir, base, unix.O_RDONLY|unix.O_NONBLOCK, 0, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return false, false, nil
	}
	defer f.Close()
	if old, err := readAll(f, maxCompare); err != nil || !bytes.Equal(old, data) {
		return false, false, nil
	}
	changed, err = attr.apply(f)
	return true, changed, err
}

// WriteFrom is WriteFile for content that a function writes, however large it
// is: it lies on the disk beside the file until it is complete, and is
// compared there. The function's error is returned as it is, and then nothing
// has changed.
func (r *Root) WriteFrom(name string, attr Attr, fill func(io.Writer) error) (changed bool, err error) {
	dir, base, err := r.parent(name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	var st unix.Stat_t
	var old *unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return false, &fs.PathError{Op: "stat", Path: name, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return false, &fs.PathError{Op: "write", Path: name, Err: errors.New("not a regular file")}
	default:
		old = &st
	}
	err = replaceBy(dir, base, attr, old, func(f *os.File) error {
		if err := fill(f); err != nil || old == nil {
			return err
		}
		if same, err := sameContent(dir, base, f); err != nil || !same {
			return err
		}
		return errSame
	})
	if !errors.Is(err, errSame) {
		return err == nil, err
	}
	f, err := openIn(dir, base, unix.O_RDONLY|unix.O_NONBLOCK, 0, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return false, err
	}
	defer f.Close()
	changed, err = attr.apply(f)
	return changed, named(err, name)
}

// errSame says that a new file is like the old one.
var errSame = errors.New("the content is the same")

// sameContent compares a file with an open one, from its beginning.
func sameContent(dir *os.File, base string, f *os.File) (bool, error) {
	old, err := openIn(dir, base, unix.O_RDONLY|unix.O_NONBLOCK, 0, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return false, err
	}
	defer old.Close()
	before, err := old.Stat()
	if err != nil {
		return false, err
	}
	after, err := f.Stat()
	if err != nil || before.Size() != after.Size() {
		return false, err
	}
	var a, b [64 << 10]byte
	for at := int64(0); at < after.Size(); {
		n, err := old.ReadAt(a[:], at)
		if n == 0 {
			return false, err
		}
		if m, err := f.ReadAt(b[:n], at); m < n || !bytes.Equal(a[:n], b[:n]) {
			return false, ignoreEOF(err)
		}
		at += int64(n)
	}
	return true, nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// replace writes a new file beside base and renames it over base. What attr
// keeps comes from the old file.
func replace(dir *os.File, base string, data []byte, attr Attr, old *unix.Stat_t) (err error) {
	return replaceBy(dir, base, attr, old, func(f *os.File) error {
		if _, err := f.Write(data); err != nil {
			return errors.Unwrap(err)
		}
		return nil
	})
}

func replaceBy(dir *os.File, base string, attr Attr, old *unix.Stat_t, fill func(*os.File) error) (err error) {
	mode := uint32(0o644)
	if old != nil {
		mode = old.Mode & 07777
		if attr.UID == Keep {
			attr.UID = int(old.Uid)
		}
		if attr.GID == Keep {
			attr.GID = int(old.Gid)
		}
	}
	attr.Mode = int(attr.mode(mode)) // whatever the umask is
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	temp := ".#" + hex.EncodeToString(random[:])
	f, err := openIn(dir, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(int(dir.Fd()), temp, 0)
		}
	}()
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	if _, err := attr.apply(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return errors.Unwrap(err)
	}
	return unix.Renameat(int(dir.Fd()), temp, int(dir.Fd()), base)
}

// writeInPlace opens what a path leads to, beneath the root, and overwrites
// it.
func (r *Root) writeInPlace(name string, data []byte, attr Attr) (changed bool, err error) {
	f, err := r.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_NONBLOCK, attr.mode(0o644))
	if errors.Is(err, unix.EACCES) { // write-only files of /proc and /sys
		f, err = r.open(name, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if old, err := readAll(f, maxCompare); err == nil && bytes.Equal(old, data) {
		return attr.apply(f)
	}
	if err := f.Truncate(0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
		return false, err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return false, err
	}
	if _, err := attr.apply(f); err != nil {
		return true, err
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return true, err
	}
	return true, nil
}
