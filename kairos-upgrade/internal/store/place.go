package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// directories of a store, in the order in which they are made: whatever
// interrupts that, the last one is missing.
var directories = []string{objectsDir, imagesDir, layersDir, deployment.QuarantineDir, tmpDir, partialDir, deployment.Dir}

// needed are those without which a directory is not taken for a store. The
// others are made again.
var needed = []string{objectsDir, imagesDir, deployment.Dir}

// ErrNoStore says that a directory holds no store.
var ErrNoStore = errors.New("no store there")

// isStore reports by its error whether a directory is a store.
func isStore(root *os.Root) error {
	for i, name := range needed {
		info, err := root.Lstat(name)
		if missing := errors.Is(err, fs.ErrNotExist); missing && i == len(needed)-1 && holdsContents(root) {
			return exit.Hint(fmt.Errorf("the store is damaged: it has contents and no directory %s", name),
				"fsck(8) of its file system puts a directory that has lost its name into lost+found")
		} else if missing || err == nil && !info.IsDir() {
			return fmt.Errorf("%w: it has no directory %s", ErrNoStore, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holdsContents reports whether a directory, which has those of a store, has
// an image in it: images are named by their digests.
func holdsContents(root *os.Root) bool {
	names, err := list(root, imagesDir)
	return err == nil && slices.ContainsFunc(names, func(name string) bool {
		_, err := fsverity.Parse(name)
		return err == nil
	})
}

// mayBeStore reports by its error whether a directory is a store, or may be
// made one: it is empty but for what mkfs leaves, or for what an interrupted
// making of a store has left.
func mayBeStore(root *os.Root) error {
	none := isStore(root)
	if !errors.Is(none, ErrNoStore) {
		return none
	}
	names, err := list(root, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		empty, err := isEmpty(root, name)
		if err != nil {
			return err
		}
		if !empty || !slices.Contains(append(directories, "lost+found", lockFile), name) {
			return fmt.Errorf("%w, and it is not empty: %s is there", none, name)
		}
	}
	return nil
}

// isEmpty reports whether a directory, or the lock, has no content.
func isEmpty(root *os.Root, name string) (bool, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return false, err
	}
	if !info.IsDir() {
		return name == lockFile && info.Mode().IsRegular(), nil
	}
	names, err := list(root, name)
	return len(names) == 0, err
}

// list returns at most a few names of a directory, more than a new store has.
func list(root *os.Root, dir string) ([]string, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(2 * (len(directories) + 2))
	if err == io.EOF {
		err = nil
	}
	return names, err
}
