package tree

import (
	"errors"
	"slices"
	"strings"
)

// NormalizeOptions say what of a tree is kept beyond the default.
type NormalizeOptions struct {
	// SELinux keeps security.selinux labels: set it for an image that
	// carries a policy, see HasSELinuxPolicy.
	SELinux bool
}

// Emptied reports whether Normalize removes what is at a path, as Walk yields
// paths.
func Emptied(path string) bool {
	dir, _, beneath := strings.Cut(path, "/")
	return beneath && slices.Contains(emptied[:], dir)
}

// ErrNoUsr says that the tree can't be an operating system.
var ErrNoUsr = errors.New("the tree has no directory /usr")

// emptied are the directories whose content belongs to a machine or to boot
// files, not to the image: /boot because a UKI that carries the digest of the
// image lives there.
var emptied = [...]string{"run", "boot", "sysroot"}

// Normalize takes from the tree everything that differs between places where
// the same image is unpacked, so that it has one digest everywhere:
//
//   - the root directory has the metadata of /usr (layers seldom carry "/");
//   - /run, /boot and /sysroot, where they are directories, are empty and have
//     the mtime of /usr (container tools write into /run);
//   - only security.capability is kept of the extended attributes, and
//     security.selinux if asked for.
//
// Error: ErrNoUsr.
func Normalize(root *Inode, o NormalizeOptions) error {
	usr := root.Lookup("usr")
	if usr == nil || !usr.IsDir() {
		return ErrNoUsr
	}
	for _, name := range emptied {
		if dir := root.Lookup(name); dir != nil && dir.IsDir() {
			dir.Clear()
			dir.Mtime = usr.Mtime
		}
	}
	root.CopyMetadata(usr)
	filterXattrs(root, o)
	return nil
}

func filterXattrs(n *Inode, o NormalizeOptions) {
	if len(n.Xattrs) > 0 {
		n.RemoveXattrs(func(name string) bool {
			return name != "security.capability" && !(o.SELinux && name == "security.selinux")
		})
	}
	for _, child := range n.Children() {
		filterXattrs(child, o)
	}
}

// HasSELinuxPolicy reports whether the image carries a compiled SELinux policy
// (/etc/selinux/*/policy/policy.*), which gives its labels a meaning.
func HasSELinuxPolicy(root *Inode) bool {
	selinux := root.Find("etc/selinux")
	if selinux == nil {
		return false
	}
	for _, kind := range selinux.Children() {
		dir := kind.Lookup("policy")
		if dir == nil {
			continue
		}
		for name, file := range dir.Children() {
			if strings.HasPrefix(name, "policy.") && file.IsRegular() {
				return true
			}
		}
	}
	return false
}
