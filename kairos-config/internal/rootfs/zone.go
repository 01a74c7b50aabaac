package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrUnsafe is returned for a path on which somebody else than root decides
// where it leads: see zone.
var ErrUnsafe = errors.New("unsafe path")

// zone says who else than root may change the directories on the way to a file,
// and so where the way leads. The zero zone is root's.
//
// The rule is that of systemd-tmpfiles(8) for unsafe path transitions: the way
// may go from what root owns to what a user owns, and never back or to another
// user. A user's link is followed to what is the user's, and nowhere else. Root's
// links are followed while the way is root's.
//
// One thing is less strict here: directories and files of root in a user's
// directory are gone into and replaced, since configs make such ones. A user
// can't make any, no link of root is followed there, and a user's link does not
// lead into such a directory: it may be a mount.
type zone struct {
	user   uint32 // 0: none
	linked bool   // a link of the user led here
}

// inode is what a step of a way leads to.
type inode struct {
	uid   uint32
	link  bool
	file  bool   // neither a link nor a directory
	links uint64 // names that it has
	// shared: it is in a directory that not only its owner may write to.
	shared bool
	// absolute: it is a link to an absolute path.
	absolute bool
}

func inodeOf(st *unix.Stat_t, shared bool) inode {
	kind := st.Mode & unix.S_IFMT
	return inode{uid: st.Uid, link: kind == unix.S_IFLNK, file: kind != unix.S_IFLNK && kind != unix.S_IFDIR, links: uint64(st.Nlink), shared: shared}
}

// shared reports whether others than its owner may write to a directory. The
// bit of the group is also that of the mask of an access list.
func shared(dir *unix.Stat_t) bool { return dir.Mode&0o022 != 0 }

// trusted reports whether a user may decide where ways lead: root, and who runs
// the program.
func trusted(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// enter returns the zone behind a step, or why it is not made.
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

// leave returns the zone after a step to the directory above.
func (z zone) leave(to uint32) (zone, error) {
	if z.user != 0 && to != z.user {
		return z, fmt.Errorf("%w: from what belongs to uid %d back to what belongs to uid %d", ErrUnsafe, z.user, to)
	}
	return z, nil
}
