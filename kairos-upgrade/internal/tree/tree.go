// Package tree holds a file system tree in memory: names, metadata and the
// digests of contents, but never the contents themselves. Layers are merged
// into a tree, a directory is read into one, and package composefs writes one
// as an image and reads it back.
//
// It is lean: a node takes 112 bytes and a name 24 bytes plus its length, so
// that an image of 200,000 files takes about 35 MiB.
package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// InlineMax is the size in bytes up to which the content of a regular file
// lies in the tree (and in the image) instead of an object.
const InlineMax = 64

// NameMax is the length in bytes of the longest file name.
const NameMax = 255

// Inode is one inode. A hard link is one *Inode under several names; a directory
// has one name only. An Inode is not safe for concurrent use.
type Inode struct {
	// Mode is st_mode: file type (S_IFMT) and permissions.
	Mode uint32
	UID  uint32
	GID  uint32
	// Rdev is the number of a block or character device, see Mkdev.
	Rdev uint32
	// Mtime is the time of the last change in seconds since the epoch.
	Mtime int64
	// Size is the length of a regular file or of a symbolic link's target in
	// bytes, 0 for others.
	Size int64
	// Digest names the content of a regular file larger than InlineMax.
	Digest fsverity.Digest
	// Content is the whole content of a regular file of at most InlineMax
	// bytes, or the target of a symbolic link.
	Content string
	// Xattrs are the extended attributes, in order of their names.
	Xattrs []Xattr

	dir *directory // of a directory
}

// Xattr is an extended attribute with its full name ("security.capability").
type Xattr struct {
	Name  string
	Value string
}

// NewDir returns an empty directory with the given permissions.
func NewDir(perm uint32) *Inode {
	return &Inode{Mode: unix.S_IFDIR | perm&^unix.S_IFMT, dir: new(directory)}
}

// NewSymlink returns a symbolic link.
func NewSymlink(target string) *Inode {
	return &Inode{Mode: unix.S_IFLNK | 0o777, Size: int64(len(target)), Content: target}
}

// NewInline returns a regular file that is at most InlineMax bytes long.
func NewInline(perm uint32, content []byte) *Inode {
	return &Inode{Mode: unix.S_IFREG | perm&^unix.S_IFMT, Size: int64(len(content)), Content: string(content)}
}

// NewFile returns a regular file larger than InlineMax, whose content is the
// object d.
func NewFile(perm uint32, size int64, d fsverity.Digest) *Inode {
	return &Inode{Mode: unix.S_IFREG | perm&^unix.S_IFMT, Size: size, Digest: d}
}

// NewSpecial returns a device (S_IFCHR, S_IFBLK), S_IFIFO or S_IFSOCK; rdev is
// 0 but for devices.
func NewSpecial(mode, rdev uint32) *Inode { return &Inode{Mode: mode, Rdev: rdev} }

// Mkdev encodes a device number as the kernel does on disk: 12 bits of major,
// 20 bits of minor.
func Mkdev(major, minor uint32) uint32 {
	return minor&0xff | major&0xfff<<8 | minor&0xfff00<<12
}

// Type returns the file type, one of unix.S_IF….
func (n *Inode) Type() uint32 { return n.Mode & unix.S_IFMT }

// IsDir reports whether n is a directory.
func (n *Inode) IsDir() bool { return n.Type() == unix.S_IFDIR }

// IsRegular reports whether n is a regular file.
func (n *Inode) IsRegular() bool { return n.Type() == unix.S_IFREG }

// IsSymlink reports whether n is a symbolic link.
func (n *Inode) IsSymlink() bool { return n.Type() == unix.S_IFLNK }

// HasObject reports whether the content of n is an object of the store.
func (n *Inode) HasObject() bool { return n.IsRegular() && n.Size > InlineMax }

// CopyMetadata gives n the permissions, owner, mtime and extended attributes
// of from. Type, content and children stay.
func (n *Inode) CopyMetadata(from *Inode) {
	n.Mode = n.Mode&unix.S_IFMT | from.Mode&^unix.S_IFMT
	n.UID, n.GID, n.Mtime = from.UID, from.GID, from.Mtime
	n.Xattrs = slices.Clone(from.Xattrs)
}

// Xattr returns the value of an extended attribute.
func (n *Inode) Xattr(name string) (string, bool) {
	if i, ok := n.findXattr(name); ok {
		return n.Xattrs[i].Value, true
	}
	return "", false
}

// SetXattr sets an extended attribute.
func (n *Inode) SetXattr(name, value string) {
	i, ok := n.findXattr(name)
	if ok {
		n.Xattrs[i].Value = value
		return
	}
	n.Xattrs = slices.Insert(n.Xattrs, i, Xattr{name, value})
}

// RemoveXattrs removes the extended attributes for which del returns true.
func (n *Inode) RemoveXattrs(del func(name string) bool) {
	n.Xattrs = slices.DeleteFunc(n.Xattrs, func(x Xattr) bool { return del(x.Name) })
	if len(n.Xattrs) == 0 {
		n.Xattrs = nil
	}
}

func (n *Inode) findXattr(name string) (int, bool) {
	return slices.BinarySearchFunc(n.Xattrs, name, func(x Xattr, name string) int {
		return strings.Compare(x.Name, name)
	})
}

var (
	// ErrName says that a string can't be a file name.
	ErrName = errors.New("not a file name")
	// ErrNotDir says that something other than a directory was given a child.
	ErrNotDir = errors.New("not a directory")
)

// CheckName returns ErrName, wrapped, for what no directory can hold: the
// empty string, "." and "..", names longer than NameMax, and names with a
// slash or a NUL. Any other bytes are fine.
func CheckName(name string) error {
	switch {
	case name == "", name == ".", name == "..":
	case len(name) > NameMax:
		return fmt.Errorf("%.32q… (%d bytes): %w: longer than %d bytes", name, len(name), ErrName, NameMax)
	case strings.ContainsAny(name, "/\x00"):
	default:
		return nil
	}
	return fmt.Errorf("%q: %w", name, ErrName)
}
