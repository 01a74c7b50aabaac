package mount

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a directory in which paths are resolved as if it were "/": symbolic links of
// an image, absolute ones too, stay inside the image and never lead into the initrd
// (RESOLVE_IN_ROOT of openat2(2)). Paths may cross mounts.
type Root struct{ dir *os.File }

// OpenRoot opens a directory as a Root.
func OpenRoot(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Root{f}, nil
}

// Close releases the directory.
func (r *Root) Close() error { return r.dir.Close() }

// Dir opens a directory, for use as a mount point or as a source of Clone.
func (r *Root) Dir(name string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	full := path.Join(r.dir.Name(), name)
	for {
		fd, err := unix.Openat2(int(r.dir.Fd()), path.Join(".", name), &how)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			// A rename somewhere on the path while the kernel resolved it.
			continue
		case err != nil:
			return nil, fmt.Errorf("open directory %s: %w", full, err)
		}
		return os.NewFile(uintptr(fd), full), nil
	}
}

// MkdirAll creates a directory and the missing ones above it, owned by root, with mode
// 0755, and opens it.
func (r *Root) MkdirAll(name string) (*os.File, error) {
	dir, err := r.Dir("/")
	if err != nil {
		return nil, err
	}
	at := ""
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		at = path.Join(at, part)
		next, err := r.Dir(at)
		if errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(int(dir.Fd()), part, 0o755); err == nil {
				next, err = r.Dir(at)
			}
		}
		dir.Close()
		if err != nil {
			return nil, fmt.Errorf("make directory %s: %w", path.Join(r.dir.Name(), at), err)
		}
		dir = next
	}
	return dir, nil
}
