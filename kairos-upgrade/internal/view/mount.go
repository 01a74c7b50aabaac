package view

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/mount"
)

// Mount mounts a partition for this process alone, writable, without a place
// in the file system tree. A partition that is mounted elsewhere shares its
// file system with that mount.
func Mount(device string) (*View, error) {
	tree, err := create(device)
	if err != nil {
		return nil, err
	}
	return attached(tree, device)
}

// MountReadonly does the same for reading only. A partition that is mounted
// writable elsewhere is busy.
func MountReadonly(device string) (*View, error) {
	tree, err := create(device, mount.Option{Key: "ro"})
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(tree.Path())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the private mount of %s: %w", device, err), tree.Close())
	}
	return &View{Root: root, Path: device, mount: tree}, nil
}

func create(device string, options ...mount.Option) (*mount.Tree, error) {
	kind, err := disk.Probe(device)
	if err != nil {
		return nil, err
	}
	if kind != disk.Ext4 && kind != disk.Btrfs {
		return nil, fmt.Errorf("file system of %s: %w", device, ErrUnknownFileSystem)
	}
	tree, err := mount.FileSystem{
		Type: kind, Options: append(options, mount.Option{Key: "source", Value: device}),
		Attr: mount.NoSuid | mount.NoDev | mount.NoExec,
	}.Create()
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", device, err)
	}
	return tree, nil
}

// ErrUnknownFileSystem says that a partition carries none that a store can
// live on.
var ErrUnknownFileSystem = errors.New("neither ext4 nor btrfs")

func deviceOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
