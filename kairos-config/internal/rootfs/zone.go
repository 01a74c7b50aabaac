package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrUnsafe is returned for a path that another user than root can redirect: see zone.
var ErrUnsafe = errors.New("unsafe path")

// zone says which user other than root may change the directories of a path, and
// thereby redirect it. The zero zone is root's.
//
// The rule is that of systemd-tmpfiles(8) for unsafe path transitions: a path may go
// from directories of root to those of a user, and never back or to another user. A
// user's link is followed only to the same user's files. Root's links are followed
// while all directories of the path are root's.
//
// One rule is less strict: directories and files of root in a user's directory are
// entered and replaced, since configs create such files. A user can't create them, no
// link of root is followed there, and a user's link may not lead into such a directory,
// which may be a mount.
type zone struct {
	user   uint32 // 0: none
	linked bool   // a link of the user was followed
}

// inode is the file that a step of the resolution leads to.
type inode struct {
	uid   uint32
	link  bool
	file  bool   // neither a link nor a directory
	links uint64 // number of its hard links
	// shared says that others than its owner may write to its directory.
	shared bool
	// absolute says that it is a link with an absolute target.
	absolute bool
}

func inodeOf(st *unix.Stat_t, shared bool) inode {
	kind := st.Mode & unix.S_IFMT
	return inode{uid: st.Uid, link: kind == unix.S_IFLNK, file: kind != unix.S_IFLNK && kind != unix.S_IFDIR, links: uint64(st.Nlink), shared: shared}
}

// shared reports whether others than its owner may write to a directory. With an access
// control list, the group bits are the mask.
func shared(dir *unix.Stat_t) bool { return dir.Mode&0o022 != 0 }

// trusted reports whether a user may redirect paths: root, and the user who runs the
// program.
func trusted(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// enter returns the zone after a step, or why the step is refused.
func (z zone) enter(to inode) (zone, error) {
	other := !trusted(to.uid)
	switch {
	case z.user == 0 && to.link && to.shared && to.links > 1:
		// Anybody may give root's link a second name where links are not
		// protected: proc_sys_fs(5).
		return z, fmt.Errorf("%w: the link has other names", ErrUnsafe)
	case z.user == 0 && other:
		z.user = to.uid
	case z.user != 0 && other && to.uid != z.user:
		return z, fmt.Errorf("%w: from what belongs to uid %d to what belongs to uid %d", ErrUnsafe, z.user, to.uid)
	case z.user != 0 && !other && (to.link || z.linked && !to.file):
		return z, fmt.Errorf("%w: from what belongs to uid %d to what belongs to root", ErrUnsafe, z.user)
	}
	if to.link && z.user != 0 {
		z.linked = true
		if to.absolute {
			return z, fmt.Errorf("%w: a link of uid %d to an absolute path", ErrUnsafe, z.user)
		}
	}
	return z, nil
}

// leave returns the zone after a step to the parent directory.
func (z zone) leave(to uint32) (zone, error) {
	if z.user != 0 && to != z.user {
		return z, fmt.Errorf("%w: from what belongs to uid %d back to what belongs to uid %d", ErrUnsafe, z.user, to)
	}
	return z, nil
}
