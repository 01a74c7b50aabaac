package rootfs

import (
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// Mkdir creates a directory with the attributes, and the missing ones above it with
// mode 0755, and reports whether anything changed. New directories within a user's
// directory belong to the user.
func (r *Root) Mkdir(name string, attr Attr) (changed bool, err error) {
	changed, err = r.mkdir(name, attr)
	if err != nil {
		err = fmt.Errorf("make directory %s: %w", name, err)
	}
	return changed, err
}

// MakeParents creates the missing directories above a path, as Mkdir does.
func (r *Root) MakeParents(name string) error {
	s, err := r.walk(path.Clean(name), way{mkdir: true, nofollow: true})
	if err != nil {
		return fmt.Errorf("make the directory of %s: %w", name, err)
	}
	s.Close()
	return nil
}

func (r *Root) mkdir(name string, attr Attr) (changed bool, err error) {
	s, err := r.walk(path.Clean(name), way{mkdir: true})
	if err != nil {
		return false, err
	}
	defer s.Close()
	made := s.st == nil
	if made {
		switch err := unix.Mkdirat(int(s.dir.Fd()), s.base, 0o700); err {
		case nil:
		case unix.EEXIST:
			made = false
		default:
			return false, err
		}
		attr.Mode = int(attr.mode(0o755)) // whatever the umask is
	}
	s.zone.linked = s.zone.linked && !made // root's directory it may be then
	f, _, err := s.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return made, err
	}
	defer f.Close()
	changed, err = attr.apply(f)
	return changed || made, err
}

// CopyLink creates a copy of a symbolic link.
func (r *Root) CopyLink(from, to string, uid, gid int) error {
	source, sourceBase, err := r.parent(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, targetBase, err := r.parent(to)
	if err != nil {
		return err
	}
	defer target.Close()
	var text [unix.PathMax]byte
	n, err := unix.Readlinkat(int(source.Fd()), sourceBase, text[:])
	if err != nil {
		return &fs.PathError{Op: "read link", Path: from, Err: err}
	}
	if err := unix.Symlinkat(string(text[:n]), int(target.Fd()), targetBase); err != nil {
		return &fs.PathError{Op: "make link", Path: to, Err: err}
	}
	return unix.Fchownat(int(target.Fd()), targetBase, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}
