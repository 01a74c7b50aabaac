package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/mount"
)

// mountPoints are the directories on which the running system mounts file systems. An
// image that was built for containers may lack some.
var mountPoints = []string{"dev", "efi", "etc", "oem", "proc", "run", "sys", "tmp", "usr/local", "var"}

// missing returns those mount points that an image, mounted at dir, lacks.
func missing(dir string) ([]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var names []string
	for _, name := range mountPoints {
		// A link that leads nowhere yet, or out of the tree, is there as well.
		_, err := root.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			names = append(names, name)
		case err != nil:
			return nil, fmt.Errorf("look for mount points in the image: %w", err)
		}
	}
	return names, nil
}

// skeleton creates a file system with empty directories only, for a layer above the
// image, so that a read-only root has all mount points. Directories that the image has
// keep its metadata.
func skeleton(image string, names []string) (*mount.Tree, error) {
	t, err := mount.FileSystem{
		Type:    "tmpfs",
		Options: []mount.Option{{Key: "source", Value: "kairos"}, {Key: "mode", Value: "0755"}, {Key: "size", Value: "1m"}},
		Attr:    mount.NoDev | mount.NoSuid | mount.NoExec,
	}.Create()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(t.Path())
	if err == nil {
		err = fill(root, image, names)
		root.Close()
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("make mount points: %w", err)
	}
	return t, nil
}

func fill(root *os.Root, image string, names []string) error {
	parents := map[string]bool{".": true}
	for _, name := range names {
		if err := root.MkdirAll(name, 0o755); err != nil {
			return err
		}
		for dir := path.Dir(name); !parents[dir]; dir = path.Dir(dir) {
			parents[dir] = true
		}
	}
	for dir := range parents {
		if err := copyMetadata(root, dir, path.Join(image, dir)); err != nil {
			return err
		}
	}
	return nil
}

// copyMetadata copies the mode, owner and time of a directory to another one.
func copyMetadata(root *os.Root, dir, from string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	return errors.Join(
		root.Lchown(dir, int(st.Uid), int(st.Gid)),
		root.Chmod(dir, info.Mode()),
		root.Chtimes(dir, info.ModTime(), info.ModTime()),
	)
}
