package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Mkdir makes a directory with the attributes, and those above it that are
// missing with mode 0755, and reports whether anything changed.
func (r *Root) Mkdir(name string, attr Attr) (changed bool, err error) {
	f, made, err := r.mkdir(path.Clean(name))
	if err != nil {
		return made, fmt.Errorf("make directory %s: %w", name, err)
	}
	defer f.Close()
	if made {
		attr.Mode = int(attr.mode(0o755)) // whatever the umask is
	}
	changed, err = attr.apply(f)
	if err != nil {
		return made, fmt.Errorf("make directory %s: %w", name, err)
	}
	return changed || made, nil
}

// mkdir opens a directory, making what is missing.
func (r *Root) mkdir(name string) (dir *os.File, made bool, err error) {
	if !strings.HasPrefix(name, "/") {
		return nil, false, errors.New("not an absolute path")
	}
	dir, err = r.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || name == "/" {
		return dir, false, err
	}
	above, _, err := r.mkdir(path.Dir(name))
	if err != nil {
		return nil, false, err
	}
	defer above.Close()
	base := path.Base(name)
	if err := unix.Mkdirat(int(above.Fd()), base, 0o755); err != nil {
		if err == unix.EEXIST {
			err = errors.New("a symbolic link to nothing stands there")
		}
		return nil, false, err
	}
	dir, err = openIn(above, base, unix.O_RDONLY|unix.O_DIRECTORY, 0, unix.RESOLVE_NO_SYMLINKS)
	if err == nil {
		err = unix.Fchmod(int(dir.Fd()), 0o755)
	}
	return dir, true, err
}

// CopyLink makes a symbolic link like another one.
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
