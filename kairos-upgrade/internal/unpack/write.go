package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// writer writes a tree into a directory.
type writer struct {
	dir   *os.Root
	owner bool                    // owners can be set
	uses  map[fsverity.Digest]int // inodes that still need a content
	first map[*tree.Inode]string  // the first name of a file that has several
	links map[*tree.Inode]uint32  // how many names it has

	files int
	bytes int64
}

func newWriter(dir *os.Root, root *tree.Inode) *writer {
	w := &writer{dir: dir, owner: os.Geteuid() == 0, uses: map[fsverity.Digest]int{}, first: map[*tree.Inode]string{}, links: root.Links()}
	seen := map[*tree.Inode]bool{}
	for _, n := range root.Walk() {
		if n.HasObject() && !seen[n] {
			seen[n] = true
			w.uses[n.Digest]++
		}
	}
	return w
}

// check refuses what a directory of files has no use for, before anything is
// written.
func (w *writer) check(root *tree.Inode) error {
	for name, n := range root.Walk() {
		if !n.IsDir() && !n.IsRegular() && !n.IsSymlink() {
			return fmt.Errorf("%s: a device, pipe or socket is not unpacked", name)
		}
	}
	for _, own := range []string{recordName, spoolName} {
		if root.Lookup(own) != nil {
			return fmt.Errorf("%s: the image has a file of this name", own)
		}
	}
	return nil
}

// directory writes what is in a directory of the image, and then its own
// metadata. Those of the topmost one stay as they are.
func (w *writer) directory(ctx context.Context, n *tree.Inode, at string) error {
	for name, child := range n.Children() {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := path.Join(at, name)
		var err error
		if child.IsDir() {
			if err = w.mkdir(to); err == nil {
				err = w.directory(ctx, child, to)
			}
		} else {
			err = w.place(child, to)
		}
		if err != nil {
			return err
		}
	}
	if at == "" {
		return nil
	}
	f, err := w.dir.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.metadata(f, at, n)
}

// mkdir makes a directory. One that is there is kept; a file or a symbolic
// link in its place goes, so that nothing is written through a link.
func (w *writer) mkdir(at string) error {
	st, err := w.dir.Lstat(at)
	switch {
	case err == nil && st.IsDir():
		return nil
	case err == nil:
		if err := w.dir.Remove(at); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return w.dir.Mkdir(at, 0o700)
}

// temporary is where a file is made before it is renamed into its place.
const temporary = spoolName + "/new"

// place makes a file, a symbolic link or a hard link, and renames it into its
// place: what was there before is there until then.
func (w *writer) place(n *tree.Inode, at string) error {
	w.files++
	made, err := w.make(n, at)
	if err != nil {
		return err
	}
	err = w.dir.Rename(made, at)
	if err != nil {
		if st, there := w.dir.Lstat(at); there == nil && st.IsDir() {
			return fmt.Errorf("%s: %w", at, ErrDirectory)
		}
	}
	if err == nil && made == temporary {
		// Two names of one file make rename(2) do nothing.
		if err = w.dir.Remove(temporary); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return err
}

// make returns where it has made it.
func (w *writer) make(n *tree.Inode, at string) (made string, err error) {
	if first, again := w.first[n]; again {
		return temporary, w.dir.Link(first, temporary)
	}
	if w.links[n] > 1 {
		w.first[n] = at
	}
	if n.IsSymlink() {
		if err := w.dir.Symlink(n.Content, temporary); err != nil {
			return temporary, err
		}
		if w.owner {
			err = w.dir.Lchown(temporary, int(n.UID), int(n.GID))
		}
		return temporary, errors.Join(err, w.linkTime(n, at))
	}
	w.bytes += n.Size
	made = temporary
	if n.HasObject() {
		if w.uses[n.Digest]--; w.uses[n.Digest] == 0 { // the last one takes it
			made = objectName(n.Digest)
		}
	}
	f, err := w.dir.OpenFile(made, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch {
	case !n.HasObject():
		_, err = io.WriteString(f, n.Content)
	case made == temporary:
		err = copyContent(f, w.dir, objectName(n.Digest))
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", at, err)
	}
	return made, w.metadata(f, at, n)
}

// metadata gives a file or directory what the image says: the owner first,
// because a change of it takes set-user-ID and capabilities away.
func (w *writer) metadata(f *os.File, at string, n *tree.Inode) error {
	if w.owner {
		if err := f.Chown(int(n.UID), int(n.GID)); err != nil {
			return fmt.Errorf("owner of %s: %w", at, err)
		}
	}
	if err := unix.Fchmod(int(f.Fd()), n.Mode&0o7777); err != nil {
		return fmt.Errorf("permissions of %s: %w", at, err)
	}
	for _, x := range n.Xattrs {
		if !kept(x.Name, w.owner) {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), x.Name, []byte(x.Value), 0); err != nil {
			return fmt.Errorf("attribute %s of %s: %w", x.Name, at, err)
		}
	}
	mtime := unix.NsecToTimeval(time.Unix(n.Mtime, 0).UnixNano())
	if err := unix.Futimes(int(f.Fd()), []unix.Timeval{mtime, mtime}); err != nil {
		return fmt.Errorf("time of %s: %w", at, err)
	}
	return nil
}

// linkTime sets the time of a symbolic link, which has no descriptor.
func (w *writer) linkTime(n *tree.Inode, at string) error {
	dir, err := w.dir.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	mtime := unix.Timespec{Sec: n.Mtime}
	if err := unix.UtimesNanoAt(int(dir.Fd()), temporary, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("time of %s: %w", at, err)
	}
	return nil
}

// kept reports whether an attribute means something outside of its image:
// labels are of the image's policy, trusted ones of an overlay.
func kept(name string, owner bool) bool {
	return strings.HasPrefix(name, "user.") || owner && name == "security.capability"
}
