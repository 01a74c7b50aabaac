package rootfs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// made is the name of the new directory while it is filled.
const made = "made"

// ReplaceDir replaces the directory at a path by a new one. The function creates it, as
// "made" in the directory whose path it gets and which only root can enter: so no user
// can create links in the way of programs that write there. The new directory and all
// its content get the owner of its parent directory.
func (r *Root) ReplaceDir(name string, fill func(dir string) error) (err error) {
	if err := checkName(name); err != nil {
		return err
	}
	s, err := r.walk(name, way{nofollow: true})
	if err != nil {
		return err
	}
	defer s.Close()
	defer func() { err = named(err, name) }()
	if s.st != nil && s.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.New("it exists, and is not a directory")
	}
	temp := ".#" + rand.Text()
	if err := unix.Mkdirat(int(s.dir.Fd()), temp, 0o700); err != nil {
		return err
	}
	dir, err := openAt(s.dir, temp, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	var st, above unix.Stat_t
	if err := errors.Join(unix.Fstat(int(dir.Fd()), &st), unix.Fstat(int(s.dir.Fd()), &above)); err != nil {
		return err
	}
	if !trusted(st.Uid) || st.Mode&0o777 != 0o700 {
		return fmt.Errorf("%w: a directory was replaced meanwhile", ErrUnsafe)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	inside, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, inside.RemoveAll(made), inside.Close())
		_ = unix.Unlinkat(int(s.dir.Fd()), temp, unix.AT_REMOVEDIR) // its owner may have given it another name
	}()
	if err := fill(path); err != nil {
		return err
	}
	if err := handOver(dir, made, int(above.Uid), int(above.Gid)); err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if s.st != nil {
		flags = unix.RENAME_EXCHANGE // what was there is removed then
	}
	return unix.Renameat2(int(dir.Fd()), made, int(s.dir.Fd()), s.base, flags)
}

// handOver changes the owner of a tree that other users cannot reach yet.
func handOver(dir *os.File, name string, uid, gid int) error {
	if err := unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	below, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return err
	}
	defer below.Close()
	names, err := below.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := handOver(below, name, uid, gid); err != nil {
			return err
		}
	}
	return nil
}
