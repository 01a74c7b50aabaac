package account

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

const (
	skeleton        = "/etc/skel"
	maxSkeletonFile = 1 << 20
)

// EnsureHome creates a user's home directory, mode 0700, with the files of /etc/skel,
// and returns its path if it was created. An existing directory of root is given to the
// user, unless it is the root directory or another user can change a directory above
// it; a directory of another user is an error and stays as it is.
func EnsureHome(root *rootfs.Root, a Account) (changed string, err error) {
	st, err := root.Stat(a.Home)
	top, errTop := root.Stat("/")
	switch {
	case errTop != nil:
		return "", errTop
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", fmt.Errorf("home of %s: %w", a.Name, err)
	case int(st.Uid) == a.UID:
		return "", nil
	case st.Uid != 0:
		return "", fmt.Errorf("home of %s: %s belongs to uid %d, not %d: not changed", a.Name, a.Home, st.Uid, a.UID)
	case st.Ino == top.Ino && st.Dev == top.Dev:
		return "", nil
	default:
		if owned, err := root.Owned(a.Home); err != nil || owned {
			return "", fmt.Errorf("home of %s: %s belongs to root, below a directory that does not: not changed", a.Name, a.Home)
		}
		_, err := root.Mkdir(a.Home, rootfs.Attr{Mode: rootfs.Keep, UID: a.UID, GID: a.GID})
		return a.Home, err
	}
	// Root's until it is complete: nobody can put links into it meanwhile.
	if _, err := root.Mkdir(a.Home, rootfs.Attr{Mode: 0o700, UID: rootfs.Keep, GID: rootfs.Keep}); err != nil {
		return "", err
	}
	if err := copySkeleton(root, skeleton, a.Home, a); err != nil {
		return a.Home, fmt.Errorf("home of %s: %w", a.Name, err)
	}
	_, err = root.Mkdir(a.Home, rootfs.Attr{Mode: 0o700, UID: a.UID, GID: a.GID})
	return a.Home, err
}

func copySkeleton(root *rootfs.Root, from, to string, a Account) error {
	entries, err := root.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		source, target := path.Join(from, e.Name()), path.Join(to, e.Name())
		switch {
		case e.Type() == fs.ModeSymlink:
			err = root.CopyLink(source, target, a.UID, a.GID)
		case e.IsDir():
			err = copySkeletonDir(root, source, target, a)
		case e.Type().IsRegular():
			err = copySkeletonFile(root, source, target, a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copySkeletonDir(root *rootfs.Root, source, target string, a Account) error {
	st, err := root.Stat(source)
	if err != nil {
		return err
	}
	if _, err := root.Mkdir(target, rootfs.Attr{Mode: int(st.Mode & 0o777), UID: a.UID, GID: a.GID}); err != nil {
		return err
	}
	return copySkeleton(root, source, target, a)
}

func copySkeletonFile(root *rootfs.Root, source, target string, a Account) error {
	st, err := root.Stat(source)
	if err != nil {
		return err
	}
	data, err := root.ReadFile(source, maxSkeletonFile)
	if err != nil {
		return err
	}
	_, err = root.WriteFile(target, data, rootfs.Attr{Mode: int(st.Mode & 0o777), UID: a.UID, GID: a.GID})
	return err
}

// AuthorizeKeys adds missing keys to a user's authorized_keys and returns the path of
// the file if it changed. Paths are resolved beneath the home directory as their root:
// links that its owner made lead only to the owner's files.
func AuthorizeKeys(root *rootfs.Root, a Account, keys []string) (changed string, err error) {
	home, err := root.Sub(a.Home)
	if err != nil {
		return "", fmt.Errorf("home of %s: %w", a.Name, err)
	}
	defer home.Close()
	const dir, file = "/.ssh", "/.ssh/authorized_keys"
	if _, err := home.Mkdir(dir, rootfs.Attr{Mode: 0o700, UID: a.UID, GID: a.GID}); err != nil {
		return "", err
	}
	attr := rootfs.Attr{Mode: 0o600, UID: a.UID, GID: a.GID}
	wrote, err := home.Edit(file, 1<<20, attr, func(old []byte, _ *rootfs.Attr) ([]byte, error) { return addKeys(string(old), keys), nil })
	if err != nil {
		return "", fmt.Errorf("keys of %s: %w", a.Name, err)
	}
	if !wrote {
		return "", nil
	}
	return a.Home + file, nil
}

// addKeys appends missing lines to a file.
func addKeys(file string, keys []string) []byte {
	known := map[string]bool{}
	for line := range strings.Lines(file) {
		known[strings.TrimSpace(line)] = true
	}
	if file != "" && !strings.HasSuffix(file, "\n") {
		file += "\n"
	}
	for _, key := range keys {
		for line := range strings.Lines(key) {
			if line = strings.TrimSpace(line); line != "" && !known[line] {
				known[line] = true
				file += line + "\n"
			}
		}
	}
	return []byte(file)
}
