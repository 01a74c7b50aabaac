package initrd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/report"
)

// mountStore mounts the store: the mount is read-only, the file system is not, so that
// kairos-upgrade can create a private writable mount of it. On a live medium the file
// system is read-only, too.
//
// Only root may enter the store: objects have no permissions of their own, so a file
// that only root may read in the system could be read by everybody there.
func (i *Initrd) mountStore(ctx context.Context, r *Report) (disk.Partition, error) {
	i.Status("Waiting for %s", i.Args.Store)
	if i.Args.Store == disk.LabelLive {
		return i.mountLive(ctx, r)
	}
	wait, cancel := i.waiting(ctx)
	defer cancel()
	part, err := i.Finder.Find(wait, i.Args.Store)
	if err != nil {
		return part, err
	}
	i.Log.Info("found the store", "label", i.Args.Store, "device", part.Path)
	fs := fileSystem{device: part.Path, attr: storeAttr, damagedToo: true}
	t, err := i.create(ctx, fs, r)
	if err != nil {
		return part, err
	}
	closed, err := closeToOthers(t)
	if err != nil {
		i.Log.Warn("the store admits other users", "device", part.Path, "error", err)
	}
	if err := t.SetAttr(storeAttr | mount.ReadOnly); err != nil {
		t.Close()
		return part, err
	}
	if closed {
		return part, i.attach(t, i.path(storeDir))
	}
	return part, i.attachPrivate(t)
}

// closeToOthers removes all permissions of other users on the root directory of a file
// system, and reports whether they have none.
func closeToOthers(t *mount.Tree) (closed bool, err error) {
	root, err := os.Open(t.Path())
	if err != nil {
		return false, err
	}
	defer root.Close()
	info, err := root.Stat()
	if err != nil {
		return false, err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return true, nil
	}
	err = root.Chmod(0o700)
	if errors.Is(err, unix.EROFS) { // a medium that nothing is written to
		return false, nil
	}
	return err == nil, err
}

// attachPrivate attaches a store whose root directory cannot exclude other users
// beneath a directory that does, and creates a link at the usual path.
func (i *Initrd) attachPrivate(t *mount.Tree) error {
	private := i.path(privateDir)
	err := os.MkdirAll(private, 0o700)
	if err == nil {
		err = os.Chmod(private, 0o700)
	}
	if err == nil {
		err = os.Symlink(filepath.Join(privateDir, storeDir), i.path(storeDir))
	}
	if err != nil {
		t.Close()
		return fmt.Errorf("restrict the store to root: %w", err)
	}
	return i.attach(t, filepath.Join(private, storeDir))
}

// storeTarget returns the mount point of the store in the running system.
func (i *Initrd) storeTarget() string {
	if _, err := os.Readlink(i.path(storeDir)); err == nil {
		return filepath.Join(report.Dir, privateDir, storeDir)
	}
	return filepath.Join(report.Dir, storeDir)
}
