package tree

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrSource lists and gets the extended attributes of one file. Both
// functions return the size that they need when given no buffer.
type xattrSource struct {
	list func(buf []byte) (int, error)
	get  func(name string, buf []byte) (int, error)
}

func fdXattrs(f *os.File) xattrSource {
	fd := int(f.Fd())
	return xattrSource{
		list: func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		get:  func(name string, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) },
	}
}

// pathXattrs is for what can't be opened: symbolic links and special files.
// There is no *at(2) form before Linux 6.13, hence the way through /proc.
func pathXattrs(dir *os.File, name string) xattrSource {
	path := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
	return xattrSource{
		list: func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) },
		get:  func(name string, buf []byte) (int, error) { return unix.Lgetxattr(path, name, buf) },
	}
}

func (n *Inode) readXattrs(from xattrSource) error {
	list, err := grow(from.list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return from.get(name, buf) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue // not for us to read, or gone
		}
		if err != nil {
			return fmt.Errorf("get extended attribute %s: %w", name, err)
		}
		n.SetXattr(strings.Clone(name), string(value))
	}
	return nil
}

// grow asks for a size and then for the data, until it fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) {
			return nil, err
		}
	}
}
