// Package mount creates file systems and attaches their mounts with the kernel's
// file-system context calls: fsopen(2), fsconfig(2), fsmount(2), open_tree(2),
// mount_setattr(2), move_mount(2).
//
// Compared with mount(2), the kernel returns error messages in words, and a mount has
// all its attributes before anybody can see it. A mount that is never
// attached is seen by this process alone and ceases to exist with it.
package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes of mounts, a set of bits: MOUNT_ATTR_* of mount_setattr(2).
const (
	ReadOnly = unix.MOUNT_ATTR_RDONLY
	NoSuid   = unix.MOUNT_ATTR_NOSUID
	NoDev    = unix.MOUNT_ATTR_NODEV
	NoExec   = unix.MOUNT_ATTR_NOEXEC
)

// Option is one option of a file system. A Value of "" makes it a flag.
type Option struct{ Key, Value string }

func (o Option) String() string {
	if o.Value == "" {
		return o.Key
	}
	return o.Key + "=" + o.Value
}

// FileSystem describes a file system for the kernel to create.
type FileSystem struct {
	Type    string
	Options []Option // in the order in which they are passed
	Attr    int      // attributes of the mount
}

// OptionError names the option that the kernel refused.
type OptionError struct {
	Option Option
	Err    error
}

func (e *OptionError) Error() string { return fmt.Sprintf("option %s: %v", e.Option, e.Err) }
func (e *OptionError) Unwrap() error { return e.Err }

// Create creates the file system. Its mount is not attached yet. The error has the
// kernel's message and number.
func (fs FileSystem) Create() (*Tree, error) {
	context, err := unix.Fsopen(fs.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("the kernel does not know this file system: %w", err)
		}
		return nil, fmt.Errorf("create %s: %w", fs.Type, err)
	}
	defer unix.Close(context)
	for _, o := range fs.Options {
		if err := set(context, o); err != nil {
			return nil, fmt.Errorf("create %s: %w", fs.Type, &OptionError{o, explain(context, err)})
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("create %s: %w", fs.Type, explain(context, err))
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, fs.Attr)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", fs.Type, explain(context, err))
	}
	return &Tree{os.NewFile(uintptr(fd), fs.Type)}, nil
}

func set(context int, o Option) error {
	if o.Value == "" {
		return unix.FsconfigSetFlag(context, o.Key)
	}
	return unix.FsconfigSetString(context, o.Key, o.Value)
}

// explain adds the messages of a file-system context to an error. Each read returns one
// message: "e overlay: …" for an error, "w …" for a warning, "i …" for information.
func explain(context int, err error) error {
	var said []string
	message := make([]byte, 4096)
	for {
		n, rerr := unix.Read(context, message)
		if rerr != nil || n == 0 {
			break
		}
		text := strings.TrimSpace(string(message[:n]))
		if len(text) > 2 && text[1] == ' ' {
			text = text[2:]
		}
		said = append(said, text)
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
}

// Tree is a mount, or a tree of mounts, that is not attached. Close unmounts it.
type Tree struct{ f *os.File }

// Clone returns a copy of the mount at dir, without the mounts beneath it, for a bind
// mount. It does not share propagation with the original.
func Clone(dir *os.File) (*Tree, error) { return clone(dir, 0, unix.MS_PRIVATE) }

// CloneAll returns a copy of the mount at dir and of those beneath it. It receives what is
// mounted in the original later, and passes nothing back.
func CloneAll(dir *os.File) (*Tree, error) { return clone(dir, unix.AT_RECURSIVE, unix.MS_SLAVE) }

func clone(dir *os.File, recursive uint, propagation uint64) (*Tree, error) {
	fd, err := unix.OpenTree(int(dir.Fd()), "",
		unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recursive)
	if err != nil {
		return nil, fmt.Errorf("clone mount of %s: %w", dir.Name(), err)
	}
	t := &Tree{os.NewFile(uintptr(fd), dir.Name())}
	attr := unix.MountAttr{Propagation: propagation}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|recursive, &attr); err != nil {
		t.Close()
		return nil, fmt.Errorf("set propagation of mount of %s: %w", dir.Name(), err)
	}
	return t, nil
}

// SetAttr replaces the attributes ReadOnly, NoSuid, NoDev and NoExec.
func (t *Tree) SetAttr(attr int) error {
	const all = ReadOnly | NoSuid | NoDev | NoExec
	return t.setattr(unix.MountAttr{Attr_set: uint64(attr), Attr_clr: uint64(all &^ attr)})
}

// SetWritable takes ReadOnly away and leaves the other attributes.
func (t *Tree) SetWritable() error { return t.setattr(unix.MountAttr{Attr_clr: ReadOnly}) }

func (t *Tree) setattr(a unix.MountAttr) error {
	if err := unix.MountSetattr(int(t.f.Fd()), "", unix.AT_EMPTY_PATH, &a); err != nil {
		return fmt.Errorf("set attributes of mount of %s: %w", t.f.Name(), err)
	}
	return nil
}

// Path returns a path to the root of the tree, which is valid until it is attached or
// closed.
func (t *Tree) Path() string { return fmt.Sprintf("/proc/self/fd/%d", t.f.Fd()) }

// Attach attaches the tree to an open directory and closes it.
func (t *Tree) Attach(at *os.File) error {
	defer t.Close()
	err := unix.MoveMount(int(t.f.Fd()), "", int(at.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("attach %s at %s: %w", t.f.Name(), at.Name(), err)
	}
	return nil
}

// Close unmounts the tree unless it was attached.
func (t *Tree) Close() error { return t.f.Close() }

// AttachAt is Attach for a path whose directories nobody else changes.
func (t *Tree) AttachAt(dir string) error {
	at, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Close()
		return fmt.Errorf("attach %s: %w", t.f.Name(), err)
	}
	defer at.Close()
	return t.Attach(at)
}

// Detach unmounts the topmost mount at a path lazily: processes that use it keep it.
func Detach(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// IsMountPoint reports whether path is a mount point. A path that does not exist is
// none.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
