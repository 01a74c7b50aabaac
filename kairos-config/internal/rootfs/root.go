// Package rootfs reads and writes files beneath a root directory, with paths resolved
// as by a process with that root: absolute symbolic links and ".." stay inside, whoever
// made them, and nothing can change between a check and its use.
//
// For reading, the kernel resolves each path (openat2(2), RESOLVE_IN_ROOT). Writing
// resolves name by name, and follows no path that another user than root can redirect:
// see zone.
//
// os.Root would refuse links like /var/run -> /run, which every distribution has.
package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/openat2"
	"golang.org/x/sys/unix"
)

// Root is a directory that paths are resolved beneath.
type Root struct {
	dir  *os.File
	path string
	zone zone // of the directory
}

// Open returns the root at a directory of the running system.
func Open(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open root", Path: dir, Err: err}
	}
	return &Root{dir: os.NewFile(uintptr(fd), dir), path: path.Clean(dir)}, nil
}

// Close releases the root.
func (r *Root) Close() error { return r.dir.Close() }

// Path returns the path of the root directory in the running system.
func (r *Root) Path() string { return r.path }

// openIn opens a name with a directory as its root.
func openIn(dir *os.File, name string, flags int, mode uint32, resolve uint64) (*os.File, error) {
	fd, err := openat2.Open(dir, name, flags, mode, resolve)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (r *Root) open(name string, flags int) (*os.File, error) {
	return openIn(r.dir, name, flags, 0, unix.RESOLVE_IN_ROOT)
}

// Stat returns information about the target of a path. It follows all symbolic links.
func (r *Root) Stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := r.open(name, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return st, nil
}

// Exists reports whether the target of a path exists.
func (r *Root) Exists(name string) bool {
	_, err := r.Stat(name)
	return err == nil
}

// ReadFile returns the content of a regular file of at most limit bytes.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := r.open(name, unix.O_RDONLY|unix.O_NONBLOCK) // a FIFO must not hang the boot
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("not a regular file")}
	}
	// The size of files in /proc is 0: what counts is what is read.
	data, err := bounded.Read(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return data, nil
}

// Files returns the paths of all files beneath a directory that match, in lexicographic
// order; the content of a directory has the position of the directory's name. It does
// not follow links to directories, and returns other links. A missing directory has no
// files.
func (r *Root) Files(dir string, match func(name string) bool) ([]string, error) {
	entries, err := r.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			below, err := r.Files(name, match)
			if err != nil {
				return files, err
			}
			files = append(files, below...)
		case match(e.Name()):
			files = append(files, name)
		}
	}
	return files, nil
}

// ReadDir lists a directory in lexicographic order.
func (r *Root) ReadDir(dir string) ([]fs.DirEntry, error) {
	f, err := r.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Sub returns a Root for a directory beneath the root.
func (r *Root) Sub(dir string) (*Root, error) {
	s, err := r.walk(dir, way{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	f, _, err := s.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &Root{dir: f, path: path.Join(r.path, dir), zone: s.own}, nil
}

// Owned reports whether another user than root may change the target of a path, or
// redirect the path.
func (r *Root) Owned(name string) (bool, error) {
	s, err := r.walk(name, way{})
	if err != nil {
		return false, err
	}
	s.Close()
	return s.own.user != 0, nil
}

// OpenLock opens a lock file, which it creates with mode 0600.
func (r *Root) OpenLock(name string) (*os.File, error) {
	dir, base, err := r.parent(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := openAt(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

// Readlink returns the target of a symbolic link; it follows links in the path's
// directories beneath the root.
func (r *Root) Readlink(name string) (string, error) {
	f, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// Chattr sets the attributes of a regular file and reports whether anything changed.
func (r *Root) Chattr(name string, attr Attr) (changed bool, err error) {
	s, err := r.walk(name, way{})
	if err != nil {
		return false, err
	}
	defer s.Close()
	f, st, err := s.open(unix.O_RDONLY)
	if err != nil {
		return false, named(err, name)
	}
	defer f.Close()
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errNotRegular
	case s.hasOtherNames(&st):
		err = fmt.Errorf("%w: the file has other names", ErrUnsafe)
	default:
		changed, err = attr.apply(f)
	}
	return changed, named(err, name)
}

// HasDigest reports whether a path leads to a regular file with this SHA-256 digest, in
// hex. If so, it also sets the attributes, and reports whether any changed.
func (r *Root) HasDigest(name, digest string, attr Attr) (has, changed bool, err error) {
	s, err := r.walk(name, way{})
	if err != nil || s.st == nil || s.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, false, nil
	}
	defer s.Close()
	f, st, err := s.open(unix.O_RDONLY)
	if err != nil {
		return false, false, nil
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil || !strings.EqualFold(hex.EncodeToString(sum.Sum(nil)), digest) || s.hasOtherNames(&st) {
		return false, false, nil
	}
	changed, err = attr.apply(f)
	return true, changed, named(err, name)
}
