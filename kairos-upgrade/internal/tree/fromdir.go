package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// Sink takes the content of a regular file larger than InlineMax, of size
// bytes, and returns its digest. It stores the content, or only hashes it.
type Sink func(content io.Reader, size int64) (fsverity.Digest, error)

// Hash is the Sink that stores nothing.
func Hash(content io.Reader, _ int64) (fsverity.Digest, error) {
	d, _, err := fsverity.File(content)
	return d, err
}

// ErrChanged says that a file changed while it was read.
var ErrChanged = errors.New("changed while being read")

// FromDir reads the directory tree at path, with everything that is mounted
// below it. Symbolic links are kept, never followed. Files that are the same
// inode become hard links. Extended attributes that may be read are kept, all
// of them: see Normalize. Mtimes are cut to whole seconds.
//
// The tree must be at rest. Errors name the file: ErrChanged, those of sink,
// of ctx, and of the file system.
func FromDir(ctx context.Context, path string, sink Sink) (*Inode, error) {
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read tree: %w", err)
	}
	defer dir.Close()
	r := dirReader{ctx: ctx, sink: sink, seen: make(map[inodeID]*Inode)}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, fmt.Errorf("read tree: stat %s: %w", path, err)
	}
	root, err := r.directory(dir, &st)
	if err != nil {
		return nil, fmt.Errorf("read tree: %s%w", path, err)
	}
	return root, nil
}

type inodeID struct{ dev, ino uint64 }

type dirReader struct {
	ctx  context.Context
	sink Sink
	seen map[inodeID]*Inode // files with several names
}

// directory reads an open directory and everything beneath it. Its errors
// begin with the path below it.
func (r *dirReader) directory(dir *os.File, st *unix.Stat_t) (*Inode, error) {
	n := NewDir(0)
	n.setMetadata(st)
	if err := n.readXattrs(fdXattrs(dir)); err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := r.ctx.Err(); err != nil {
			return nil, fmt.Errorf(": %w", err)
		}
		child, err := r.entry(dir, name)
		if err != nil {
			return nil, fmt.Errorf("/%s%w", name, err)
		}
		if err := n.Insert(strings.Clone(name), child); err != nil {
			return nil, fmt.Errorf(": %w", err)
		}
	}
	return n, nil
}

// entry reads what is called name in an open directory.
func (r *dirReader) entry(dir *os.File, name string) (*Inode, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf(": stat: %w", err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	id := inodeID{uint64(st.Dev), st.Ino}
	if known := r.seen[id]; known != nil && !isDir {
		return known, nil
	}
	n, err := r.read(dir, name, &st)
	if err != nil {
		return nil, err
	}
	if st.Nlink > 1 && !isDir {
		r.seen[id] = n
	}
	return n, nil
}

func (r *dirReader) read(dir *os.File, name string, st *unix.Stat_t) (*Inode, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		f, err := openAt(dir, name, st, unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return r.directory(f, st)
	case unix.S_IFREG:
		f, err := openAt(dir, name, st, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return r.file(f, st)
	}
	n := NewSpecial(0, 0)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := readlinkAt(dir, name)
		if err != nil {
			return nil, fmt.Errorf(": read link: %w", err)
		}
		n = NewSymlink(target)
	}
	n.setMetadata(st)
	if err := n.readXattrs(pathXattrs(dir, name)); err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	return n, nil
}

// file reads an open regular file.
func (r *dirReader) file(f *os.File, st *unix.Stat_t) (*Inode, error) {
	n := &Inode{Size: st.Size}
	n.setMetadata(st)
	if err := n.readXattrs(fdXattrs(f)); err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	if st.Size <= InlineMax {
		content, err := io.ReadAll(io.LimitReader(f, InlineMax+1))
		if err == nil && int64(len(content)) != st.Size {
			err = ErrChanged
		}
		if err != nil {
			return nil, fmt.Errorf(": %w", err)
		}
		n.Content = string(content)
		return n, nil
	}
	counted := &counter{r: f}
	d, err := r.sink(counted, st.Size)
	if err == nil && counted.n != st.Size {
		err = ErrChanged
	}
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	n.Digest = d
	return n, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// setMetadata takes over what stat(2) says, but for size and content.
func (n *Inode) setMetadata(st *unix.Stat_t) {
	n.Mode, n.UID, n.GID = st.Mode, st.Uid, st.Gid
	n.Mtime = int64(st.Mtim.Sec)
	if t := n.Type(); t == unix.S_IFCHR || t == unix.S_IFBLK {
		n.Rdev = Mkdev(unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
}

// openAt opens what fstatat(2) has seen, and nothing else.
func openAt(dir *os.File, name string, st *unix.Stat_t, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), name, flags, 0)
	if err != nil {
		return nil, fmt.Errorf(": open: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		f.Close()
		return nil, fmt.Errorf(": stat: %w", err)
	}
	if now.Dev != st.Dev || now.Ino != st.Ino || now.Mode != st.Mode {
		f.Close()
		return nil, fmt.Errorf(": %w", ErrChanged)
	}
	return f, nil
}

func readlinkAt(dir *os.File, name string) (string, error) {
	var buf [4096]byte
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
