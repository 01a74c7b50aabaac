// Package sysroot opens directories of a root that is not the process' own.
package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/openat2"
)

// Root is a directory in which paths are resolved as if it were "/": symbolic links of
// an image, absolute ones too, stay inside the image and never lead into the initrd
// (RESOLVE_IN_ROOT of openat2(2)). Paths may cross mounts.
type Root struct{ dir *os.File }

// Open opens a directory as a Root.
func Open(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Root{f}, nil
}

// Close releases the directory.
func (r *Root) Close() error { return r.dir.Close() }

// Dir opens a directory, for use as a mount point or as a source of mount.Clone.
func (r *Root) Dir(name string) (*os.File, error) {
	full := path.Join(r.dir.Name(), name)
	fd, err := openat2.Open(r.dir, path.Join(".", name), unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_IN_ROOT)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", full, err)
	}
	return os.NewFile(uintptr(fd), full), nil
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
