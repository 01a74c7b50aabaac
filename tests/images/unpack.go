package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// LayersOf returns the layers of a version, lowest first.
func (s *Set) LayersOf(version string) []oci.Layer {
	count := map[string]int{"v1": 3, "v2": 4, "v3": 5}
	return s.Layers[:count[version]]
}

// Unpack writes the root file system of a version to the directory root.
func (s *Set) Unpack(ctx context.Context, version, root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, layer := range s.LayersOf(version) {
		if err := apply(ctx, layer.Path, root); err != nil {
			return fmt.Errorf("unpack layer %q: %w", layer.Title, err)
		}
	}
	return nil
}

// apply puts a layer on top of a tree: first what it removes, then what it brings.
func apply(ctx context.Context, layer, root string) error {
	names, err := workspace.Run(exec.CommandContext(ctx, "tar", "--zstd", "-tf", layer))
	if err != nil {
		return err
	}
	restore, err := keepTimes(root, names)
	if err != nil {
		return err
	}
	for name := range strings.Lines(names) {
		dir, file := filepath.Split(strings.TrimSuffix(name, "\n"))
		if target, gone := strings.CutPrefix(file, ".wh."); gone {
			if err := os.RemoveAll(filepath.Join(root, dir, target)); err != nil {
				return err
			}
		}
	}
	extract := exec.CommandContext(ctx, "tar", "--zstd", "-xpf", layer, "-C", root, "--numeric-owner",
		"--xattrs", "--xattrs-include=*", "--exclude=.wh.*", "--keep-directory-symlink")
	if _, err := workspace.Run(extract); err != nil {
		return err
	}
	return restore()
}

// keepTimes returns a function that gives the directories that a layer does not name their times
// back: what a layer changes in a directory does not change the directory.
func keepTimes(root, names string) (restore func() error, err error) {
	named := map[string]bool{}
	for name := range strings.Lines(names) {
		named[filepath.Join(root, strings.TrimSuffix(name, "\n"))] = true
	}
	times := map[string]time.Time{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || named[path] {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			times[path] = info.ModTime()
		}
		return err
	})
	return func() error {
		for path, at := range times {
			if err := os.Chtimes(path, time.Time{}, at); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}, err
}

// plainInitrdScript makes an initrd without the toolkit's module.
const plainInitrdScript = `
kernel=$(ls /usr/lib/modules)
dracut --quiet --force --kver "$kernel" /initrd.plain
rm -rf /var/tmp/* /var/lib/dracut
`

// PlainInitrd makes an initrd that mounts the root file system that root= names, for the same tree.
func (s *Set) PlainInitrd(ctx context.Context, root string) ([]byte, error) {
	if err := chroot(ctx, root, plainInitrdScript); err != nil {
		return nil, fmt.Errorf("make the plain initrd: %w", err)
	}
	initrd := filepath.Join(root, "initrd.plain")
	defer os.Remove(initrd)
	return os.ReadFile(initrd)
}
