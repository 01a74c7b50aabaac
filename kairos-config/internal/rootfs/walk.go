package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// spot is the resolved place of a path: a name in an open directory. The name is no
// link to follow, and need not exist.
type spot struct {
	dir  *os.File
	base string // "." for the root itself
	zone zone   // of the directory
	own  zone   // of the file itself
	// shared says that others than its owner may write to the directory.
	shared bool
	st     *unix.Stat_t // nil: nothing exists there
}

func (s spot) Close() { s.dir.Close() }

// links is how many links a path may contain, as in the kernel.
const links = 40

// way is how a path is resolved.
type way struct {
	mkdir    bool // create missing directories
	nofollow bool // do not follow a link at the end
}

// errDangling is returned for a dangling link in the place of a directory to create.
var errDangling = errors.New("it is a symbolic link to a missing file")

// part is a name of a path that is still to be resolved.
type part struct {
	name string
	link bool // the name comes from a link
}

func parts(path string, link bool) []part {
	var list []part
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			list = append(list, part{name, link})
		}
	}
	return list
}

// walker resolves a path one name at a time, each from the open directory of the last:
// nothing can change behind it. It keeps the directories that it came through, for
// "..".
type walker struct {
	dirs []*os.File // from the root to the current one
	st   unix.Stat_t
	zone zone
}

func (w *walker) here() *os.File { return w.dirs[len(w.dirs)-1] }

// back goes to the parent directory, at most to the root.
func (w *walker) back() (err error) {
	if len(w.dirs) == 1 {
		return nil
	}
	w.here().Close()
	w.dirs = w.dirs[:len(w.dirs)-1]
	if err := unix.Fstat(int(w.here().Fd()), &w.st); err != nil {
		return err
	}
	w.zone, err = w.zone.leave(w.st.Uid)
	return err
}

// top goes to the root.
func (w *walker) top() error {
	for _, d := range w.dirs[1:] {
		d.Close()
	}
	w.dirs = w.dirs[:1]
	return unix.Fstat(int(w.here().Fd()), &w.st)
}

func (w *walker) close() {
	for _, d := range w.dirs {
		d.Close()
	}
}

// walk resolves a path beneath the root.
func (r *Root) walk(path string, how way) (spot, error) {
	s, err := r.find(path, how)
	if err != nil {
		var pathError *fs.PathError
		if !errors.As(err, &pathError) {
			err = &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
	return s, err
}

func (r *Root) find(path string, how way) (spot, error) {
	if !strings.HasPrefix(path, "/") {
		return spot{}, errors.New("not an absolute path")
	}
	root, err := openAt(r.dir, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return spot{}, err
	}
	w := &walker{dirs: []*os.File{root}, zone: r.zone}
	if err := unix.Fstat(int(root.Fd()), &w.st); err != nil {
		root.Close()
		return spot{}, err
	}
	s, err := w.find(parts(path, false), how)
	if err != nil {
		w.close()
		return spot{}, err
	}
	w.dirs = w.dirs[:len(w.dirs)-1] // the last is the spot's
	w.close()
	return s, nil
}

func (w *walker) find(todo []part, how way) (spot, error) {
	followed := 0
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		if next.name == ".." {
			if err := w.back(); err != nil {
				return spot{}, err
			}
			continue
		}
		last := len(todo) == 0
		f, st, err := w.look(next.name, last)
		if errors.Is(err, unix.ENOENT) && last {
			if how.mkdir && next.link {
				return spot{}, errDangling
			}
			return spot{w.here(), next.name, w.zone, w.zone, shared(&w.st), nil}, nil
		}
		if errors.Is(err, unix.ENOENT) && how.mkdir {
			if next.link {
				return spot{}, errDangling
			}
			f, st, err = w.make(next.name)
		}
		if err != nil {
			return spot{}, err
		}
		to := inodeOf(&st, shared(&w.st))
		target := ""
		if to.link && !(last && how.nofollow) {
			if target, err = readlink(f); err == nil && target == "" {
				err = unix.ENOENT
			}
			to.absolute = strings.HasPrefix(target, "/")
		}
		var zone zone
		if err == nil {
			zone, err = w.zone.enter(to)
		}
		switch {
		case err != nil:
			f.Close()
			return spot{}, err
		case to.link && target != "":
			f.Close()
			if followed++; followed > links {
				return spot{}, unix.ELOOP
			}
			w.zone = zone
			if to.absolute {
				if err := w.top(); err != nil {
					return spot{}, err
				}
			}
			todo = append(parts(target, true), todo...)
		case last:
			f.Close()
			return spot{w.here(), next.name, w.zone, zone, to.shared, &st}, nil
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			f.Close()
			return spot{}, unix.ENOTDIR
		default:
			w.dirs, w.st, w.zone = append(w.dirs, f), st, zone
		}
	}
	return spot{w.here(), ".", w.zone, w.zone, false, &w.st}, nil
}

// look opens a name without following it. It opens a directory on the way as one, so
// that automounts are triggered.
func (w *walker) look(name string, last bool) (f *os.File, st unix.Stat_t, err error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW
	err = unix.ENOTDIR
	if !last {
		f, err = openAt(w.here(), name, flags|unix.O_DIRECTORY, 0)
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		f, err = openAt(w.here(), name, flags, 0)
	}
	if err == nil {
		if err = unix.Fstat(int(f.Fd()), &st); err != nil {
			f.Close()
		}
	}
	return f, st, err
}

// make creates a directory with mode 0755, whatever the umask is. In a user's directory
// it belongs to the user.
func (w *walker) make(name string) (f *os.File, st unix.Stat_t, err error) {
	if err := unix.Mkdirat(int(w.here().Fd()), name, 0o755); err != nil && err != unix.EEXIST {
		return nil, st, err
	}
	f, err = openAt(w.here(), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, st, err
	}
	fd := int(f.Fd())
	if err = unix.Fstat(fd, &st); err == nil && trusted(st.Uid) {
		err = unix.Fchmod(fd, 0o755)
		if err == nil && w.zone.user != 0 {
			err = unix.Fchown(fd, int(w.st.Uid), int(w.st.Gid))
		}
		if err == nil {
			err = unix.Fstat(fd, &st)
		}
	}
	if err != nil {
		f.Close()
	}
	return f, st, err
}

func readlink(f *os.File) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// openAt opens one name in a directory.
func openAt(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC, mode)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case err != unix.EINTR:
			return nil, err
		}
	}
}

// open opens the file at a spot. It must be the file that walk found, or an equally
// safe one: in a user's directory it may have changed.
func (s spot) open(flags int) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := openAt(s.dir, s.base, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, st, err
	}
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && s.base != "." {
		_, err = s.zone.enter(inodeOf(&st, s.shared)) // no link: O_NOFOLLOW
	}
	if err != nil {
		f.Close()
		return nil, st, err
	}
	return f, st, nil
}

// hasOtherNames reports whether the user who owns the directory may have made a hard
// link there to another user's file: link(2).
func (s spot) hasOtherNames(st *unix.Stat_t) bool {
	return (s.zone.user != 0 || s.shared) && st.Nlink > 1 && st.Uid != s.zone.user
}
