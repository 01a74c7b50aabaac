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

// Keep leaves an attribute unchanged, or at the default of new files.
const Keep = -1

// Attr is the owner, group and mode of a file or directory. Keep in a field leaves it
// unchanged; new files then belong to the caller, mode 0644 or 0755.
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

// apply sets the attributes of an open file and reports whether anything changed. It
// sets the owner first: chown(2) clears the setuid bit.
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

// maxCompare is the maximum size of files that are compared before they are replaced.
const maxCompare = 16 << 20

// WriteFile sets the content and attributes of a file, and reports whether anything
// changed. The directory must exist. It replaces a regular file by renaming a complete,
// synced file: after a power cut the file has its old content or the new. Where that
// isn't possible (the path is a mount point, a device, or in /proc or /sys) it writes
// the file in place. It follows root's symbolic links and keeps them.
func (r *Root) WriteFile(name string, data []byte, attr Attr) (changed bool, err error) {
	s, err := r.target(name)
	if err != nil {
		return false, err
	}
	defer s.Close()
	changed, err = s.write(data, attr)
	return changed, named(err, name)
}

// Edit replaces a file's content by the result of a function, which gets nil for a
// missing file and may change the attributes; otherwise it is like WriteFile. It does
// not give the file's content to a user who could not read it before.
func (r *Root) Edit(name string, limit int64, attr Attr, change func(old []byte, attr *Attr) ([]byte, error)) (changed bool, err error) {
	s, err := r.target(name)
	if err != nil {
		return false, err
	}
	defer s.Close()
	var old []byte
	if s.st != nil {
		f, st, err := s.open(unix.O_RDONLY)
		if err != nil {
			return false, named(err, name)
		}
		defer f.Close()
		s.st = &st // what attr keeps is that of the file that is read
		foreign := s.zone.user != 0 && st.Uid != s.zone.user
		if foreign && st.Mode&0o004 == 0 && (st.Nlink > 1 || attr.UID != Keep && uint32(attr.UID) != st.Uid) {
			return false, named(fmt.Errorf("%w: it belongs to uid %d, in what belongs to uid %d", ErrUnsafe, st.Uid, s.zone.user), name)
		}
		if old, err = readAll(f, limit); err != nil {
			return false, named(err, name)
		}
	}
	data, err := change(old, &attr)
	if err != nil {
		return false, err
	}
	changed, err = s.write(data, attr)
	return changed, named(err, name)
}

// target returns the spot of a file to write.
func (r *Root) target(name string) (spot, error) {
	if err := checkName(name); err != nil {
		return spot{}, err
	}
	return r.walk(name, way{})
}

func checkName(name string) error {
	base := path.Base(strings.TrimRight(name, "/"))
	if !strings.HasPrefix(name, "/") || base == ".." || base == "." || base == "/" {
		return &fs.PathError{Op: "open", Path: name, Err: errors.New("not an absolute path of a file")}
	}
	return nil
}

// errNotRegular says that the path leads to something that no file may replace.
var errNotRegular = errors.New("not a regular file")

func (s spot) write(data []byte, attr Attr) (changed bool, err error) {
	if s.st == nil {
		return true, s.replace(data, attr)
	}
	switch s.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFCHR: // a link to /dev/null, say
		return s.writeInPlace(data, attr)
	default:
		return false, errNotRegular
	}
	if same, changed, err := s.unchanged(data, attr); same {
		return changed, err
	}
	err = s.replace(data, attr)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
		return s.writeInPlace(data, attr)
	}
	return err == nil, err
}

// named adds the path to an error that does not have it.
func named(err error, name string) error {
	var pathError *fs.PathError
	if err == nil || errors.As(err, &pathError) {
		return err
	}
	return &fs.PathError{Op: "write", Path: name, Err: err}
}

// parent opens the directory of an absolute path. A link at the end of the path is not
// followed.
func (r *Root) parent(name string) (dir *os.File, base string, err error) {
	if err := checkName(name); err != nil {
		return nil, "", err
	}
	s, err := r.walk(name, way{nofollow: true})
	return s.dir, s.base, err
}

// unchanged reports whether a file has this content already, and if so sets the
// attributes. A file with hard links by another user never counts as unchanged, since
// its attributes are shared.
func (s spot) unchanged(data []byte, attr Attr) (same, changed bool, err error) {
	if s.st.Size != int64(len(data)) || s.st.Size > maxCompare {
		return false, false, nil
	}
	f, st, err := s.open(unix.O_RDONLY)
	if err != nil {
		return false, false, nil
	}
	defer f.Close()
	if old, err := readAll(f, maxCompare); err != nil || !bytes.Equal(old, data) || s.hasOtherNames(&st) {
		return false, false, nil
	}
	changed, err = attr.apply(f)
	return true, changed, err
}

// WriteFrom is WriteFile for content of any size that a function writes: it is written
// to a temporary file beside the file, and compared there. An error of the function is
// returned as it is, and nothing changes.
func (r *Root) WriteFrom(name string, attr Attr, fill func(io.Writer) error) (changed bool, err error) {
	s, err := r.target(name)
	if err != nil {
		return false, err
	}
	defer s.Close()
	if s.st != nil && s.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, &fs.PathError{Op: "write", Path: name, Err: errNotRegular}
	}
	var old *os.File
	err = s.replaceBy(attr, func(f *os.File) error {
		if err := fill(f); err != nil || s.st == nil {
			return err
		}
		same, st, err := s.open(unix.O_RDONLY)
		if err != nil || s.hasOtherNames(&st) {
			return nil // it is replaced, whatever it is
		}
		if equal, err := sameContent(same, f); err != nil || !equal {
			same.Close()
			return err
		}
		old = same
		return errSame
	})
	if old == nil {
		return err == nil, err
	}
	defer old.Close()
	changed, err = attr.apply(old)
	return changed, named(err, name)
}

// errSame says that the new file equals the old one.
var errSame = errors.New("the content is the same")

// sameContent compares two open files from their beginning.
func sameContent(old, f *os.File) (bool, error) {
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

// replace writes a new file beside the spot and renames it over it. Attributes that
// attr keeps come from the old file.
func (s spot) replace(data []byte, attr Attr) (err error) {
	return s.replaceBy(attr, func(f *os.File) error {
		if _, err := f.Write(data); err != nil {
			return errors.Unwrap(err)
		}
		return nil
	})
}

func (s spot) replaceBy(attr Attr, fill func(*os.File) error) (err error) {
	mode := uint32(0o644)
	if s.st != nil {
		mode = s.st.Mode & 07777
		if s.zone.user != 0 || s.hasOtherNames(s.st) {
			mode &= 0o777 // setuid is not for a user to say
		}
		if attr.UID == Keep {
			attr.UID = int(s.st.Uid)
		}
		if attr.GID == Keep {
			attr.GID = int(s.st.Gid)
		}
	}
	attr.Mode = int(attr.mode(mode)) // whatever the umask is
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	temp := ".#" + hex.EncodeToString(random[:])
	f, err := openAt(s.dir, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(int(s.dir.Fd()), temp, 0)
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
	return unix.Renameat(int(s.dir.Fd()), temp, int(s.dir.Fd()), s.base)
}

// writeInPlace overwrites the file at the spot, which in a user's directory may belong
// to another user.
func (s spot) writeInPlace(data []byte, attr Attr) (changed bool, err error) {
	if s.zone.user != 0 {
		return false, fmt.Errorf("%w: it can't be replaced, and uid %d may have put it there", ErrUnsafe, s.zone.user)
	}
	f, st, err := s.open(unix.O_RDWR)
	if errors.Is(err, unix.EACCES) { // write-only files of /proc and /sys
		f, st, err = s.open(unix.O_WRONLY)
	}
	if err != nil {
		return false, err
	}
	if s.hasOtherNames(&st) {
		f.Close()
		return false, fmt.Errorf("%w: the file has other names", ErrUnsafe)
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
