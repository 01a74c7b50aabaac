// Package view opens a directory for writing where the mount that everybody
// sees is read-only, and for nobody else.
//
// The store and the ESP of a running node are read-only mounts of writable
// file systems. A detached copy of the mount (open_tree(2) with
// OPEN_TREE_CLONE), made writable by mount_setattr(2), exists in this process
// alone and dies with it: a crash leaves nothing mounted, and no other program
// ever sees the directory writable.
package view

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/mount"
)

// View is an opened directory. Work on it goes through Root, so that nothing
// that lies beneath leads outside.
type View struct {
	Root *os.Root
	// Path is what the view was opened by, for messages.
	Path  string
	mount *mount.Tree // the detached mount, nil where there is none

	inherited *os.File // the directory, of Inherited
}

// Readonly opens a directory as everybody sees it. An automount is triggered.
func Readonly(path string) (*View, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &View{Root: root, Path: path}, nil
}

// Writable opens a directory for writing: as it is where it lies on a writable
// mount, as a private copy of the mount (CAP_SYS_ADMIN) where it does not.
func Writable(path string) (*View, error) {
	v, err := Readonly(path)
	if err != nil {
		return nil, err
	}
	readonly, err := v.isReadonly()
	if err != nil || !readonly {
		return v, errors.Join(err, closeIf(err, v))
	}
	defer v.Close()
	dir, err := v.Root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	tree, err := mount.Clone(dir)
	if err != nil {
		return nil, err
	}
	if err := tree.SetWritable(); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return attached(tree, path)
}

// Inherited is the view that a process was given the directory of, as a
// descriptor, which it takes over. path is for messages.
func Inherited(fd int, path string) (*View, error) {
	v := &View{Path: path, inherited: os.NewFile(uintptr(fd), path)}
	root, err := os.OpenRoot(v.Name())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), v.inherited.Close())
	}
	v.Root = root
	return v, nil
}

// attached opens the root of a detached mount and takes it over.
func attached(tree *mount.Tree, path string) (*View, error) {
	root, err := os.OpenRoot(tree.Path())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the private mount of %s: %w", path, err), tree.Close())
	}
	v := &View{Root: root, Path: path, mount: tree}
	readonly, err := v.isReadonly()
	if err == nil && readonly {
		err = fmt.Errorf("open %s for writing: the file system itself is read-only: %w", path, unix.EROFS)
	}
	if err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// Close closes the view; its private mount, if any, ceases to exist.
func (v *View) Close() error {
	if v.inherited != nil {
		defer v.inherited.Close()
	}
	err := v.Root.Close()
	if v.mount != nil {
		err = errors.Join(err, v.mount.Close())
		v.mount = nil
	}
	return err
}

// Name returns a path that leads to the directory for this process, for
// libraries that want one.
func (v *View) Name() string {
	if v.inherited != nil {
		return fmt.Sprintf("/proc/self/fd/%d", v.inherited.Fd())
	}
	if v.mount != nil {
		return v.mount.Path()
	}
	if path, err := filepath.Abs(v.Path); err == nil {
		return path
	}
	return v.Path
}

// Space returns the size of the view's file system and what is free for its
// owner, in bytes.
func (v *View) Space() (size, free int64, err error) {
	st, err := v.statfs()
	if err != nil {
		return 0, 0, err
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// Device returns the number of the view's file system, as stat(2) tells it.
func (v *View) Device() (uint64, error) {
	info, err := v.Root.Stat(".")
	if err != nil {
		return 0, err
	}
	return deviceOf(info), nil
}

func (v *View) isReadonly() (bool, error) {
	st, err := v.statfs()
	return st.Flags&unix.ST_RDONLY != 0, err
}

func (v *View) statfs() (st unix.Statfs_t, err error) {
	dir, err := v.Root.Open(".")
	if err != nil {
		return st, err
	}
	defer dir.Close()
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return st, fmt.Errorf("read the state of the file system of %s: %w", v.Path, err)
	}
	return st, nil
}

func closeIf(err error, v *View) error {
	if err == nil {
		return nil
	}
	return v.Close()
}
