// Package seed fills a node's directories from the image, once and atomically, with
// owners, modes, times, links and extended attributes.
package seed

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

// copier copies a tree. Paths of both sides are resolved beneath their directories.
type copier struct {
	from, to *os.Root
	links    map[inode]string // first copy of each inode, for hard links
}

type inode struct{ dev, ino uint64 }

// tree copies the directory name with its content to temp. It does not leave the file
// system of name.
func (c *copier) tree(name, temp string) error {
	st, err := c.stat(name)
	if err != nil {
		return err
	}
	if err := c.to.Mkdir(temp, 0o700); err != nil {
		return err
	}
	dir, err := c.from.Open(name)
	if err != nil {
		return err
	}
	entries, err := dir.ReadDir(-1)
	dir.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.entry(path.Join(name, e.Name()), path.Join(temp, e.Name()), st.Dev); err != nil {
			return err
		}
	}
	// Last: what is written into a directory changes its time, and a mode
	// without write permission would be in the way.
	return c.metadata(name, temp, st)
}

func (c *copier) entry(name, temp string, dev uint64) error {
	st, err := c.stat(name)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if st.Dev != dev {
			return nil // a mount
		}
		return c.tree(name, temp)
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := c.links[id]; ok && st.Nlink > 1 {
		return c.to.Link(first, temp)
	}
	c.links[id] = temp
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = c.file(name, temp)
	case unix.S_IFLNK:
		err = c.symlink(name, temp)
	default:
		err = c.node(temp, st)
	}
	if err != nil {
		return err
	}
	return c.metadata(name, temp, st)
}

func (c *copier) file(name, temp string) error {
	in, err := c.from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.to.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (c *copier) symlink(name, temp string) error {
	target, err := c.from.Readlink(name)
	if err != nil {
		return err
	}
	return c.to.Symlink(target, temp)
}

// node creates a device, FIFO or socket.
func (c *copier) node(temp string, st *unix.Stat_t) error {
	return c.inParent(c.to, temp, func(dir int, base string) error {
		return unix.Mknodat(dir, base, st.Mode, int(st.Rdev))
	})
}

// metadata copies owner, mode, extended attributes and times, in an order in which none
// resets another.
func (c *copier) metadata(name, temp string, st *unix.Stat_t) error {
	attrs, err := c.xattrs(name)
	if err != nil {
		return err
	}
	return c.inParent(c.to, temp, func(dir int, base string) error {
		if err := unix.Fchownat(dir, base, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "chown", Path: temp, Err: err}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			if err := unix.Fchmodat(dir, base, st.Mode&0o7777, 0); err != nil {
				return &fs.PathError{Op: "chmod", Path: temp, Err: err}
			}
		}
		for _, a := range attrs {
			if err := unix.Lsetxattr(fdPath(dir, base), a.name, a.value, 0); err != nil {
				return &fs.PathError{Op: "setxattr " + a.name, Path: temp, Err: err}
			}
		}
		times := []unix.Timespec{st.Atim, st.Mtim}
		if err := unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "utimes", Path: temp, Err: err}
		}
		return nil
	})
}

// maxXattr is the maximum size of the list of names and of each value, in bytes: the
// kernel's own limits.
const maxXattr = 64 << 10

type xattr struct {
	name  string
	value []byte
}

// xattrs returns the extended attributes of a file that a copy needs: not those of
// overlayfs.
func (c *copier) xattrs(name string) ([]xattr, error) {
	var attrs []xattr
	err := c.inParent(c.from, name, func(dir int, base string) error {
		file := fdPath(dir, base)
		names := make([]byte, maxXattr)
		n, err := unix.Llistxattr(file, names)
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		if err != nil {
			return &fs.PathError{Op: "listxattr", Path: name, Err: err}
		}
		value := make([]byte, maxXattr)
		for key := range strings.SplitSeq(strings.Trim(string(names[:n]), "\x00"), "\x00") {
			if key == "" || strings.HasPrefix(key, "trusted.overlay.") {
				continue
			}
			size, err := unix.Lgetxattr(file, key, value)
			if err != nil {
				return &fs.PathError{Op: "getxattr " + key, Path: name, Err: err}
			}
			attrs = append(attrs, xattr{key, append([]byte(nil), value[:size]...)})
		}
		return nil
	})
	return attrs, err
}

func (c *copier) stat(name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := c.inParent(c.from, name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return &st, nil
}

// inParent calls do with the open parent directory and the last element of name.
func (c *copier) inParent(root *os.Root, name string, do func(dir int, base string) error) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(int(dir.Fd()), path.Base(name))
}

// fdPath returns a path to a file in an open directory, for system calls that need a
// path.
func fdPath(dir int, base string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir, base) }
