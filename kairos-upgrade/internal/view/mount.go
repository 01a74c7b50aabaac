package view

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Mount mounts a partition for this process alone, writable, without a place
// in the file system tree. A partition that is mounted elsewhere shares its
// file system with that mount.
func Mount(device string) (*View, error) {
	fd, err := mount(device, false)
	if err != nil {
		return nil, err
	}
	return attached(fd, device)
}

// MountReadonly does the same for reading only. A partition that is mounted
// writable elsewhere is busy.
func MountReadonly(device string) (*View, error) {
	fd, err := mount(device, true)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the private mount of %s: %w", device, err), unix.Close(fd))
	}
	return &View{Root: root, Path: device, mount: fd}, nil
}

func mount(device string, readonly bool) (fd int, err error) {
	kind, err := fileSystem(device)
	if err != nil {
		return -1, err
	}
	if fd, err = mountAs(device, kind, readonly); err != nil {
		return -1, fmt.Errorf("mount %s (%s): %w", device, kind, err)
	}
	return fd, nil
}

// mountAs runs the steps of the mount API: open, configure, create, mount.
func mountAs(device, kind string, readonly bool) (fd int, err error) {
	config, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(config)
	if err := unix.FsconfigSetString(config, "source", device); err != nil {
		return -1, explain(config, fmt.Errorf("fsconfig source: %w", err))
	}
	if readonly {
		if err := unix.FsconfigSetFlag(config, "ro"); err != nil {
			return -1, explain(config, fmt.Errorf("fsconfig ro: %w", err))
		}
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return -1, explain(config, fmt.Errorf("fsconfig create: %w", err))
	}
	fd, err = unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, explain(config, fmt.Errorf("fsmount: %w", err))
	}
	return fd, nil
}

// explain adds what the file system has to say about a failure; the kernel
// hands its messages out through the configuration descriptor.
func explain(config int, err error) error {
	message := make([]byte, 1024)
	n, readErr := unix.Read(config, message)
	if readErr != nil || n <= 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, bytes.TrimSpace(message[:n]))
}

// ErrUnknownFileSystem says that a partition carries none that a store can
// live on.
var ErrUnknownFileSystem = errors.New("neither ext4 nor btrfs")

// fileSystem tells the type of a partition's file system by its magic number.
func fileSystem(device string) (string, error) {
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, known := range []struct {
		kind   string
		offset int64
		magic  string
	}{
		{"ext4", 1024 + 56, "\x53\xef"},
		{"btrfs", 64<<10 + 64, "_BHRfS_M"},
	} {
		magic := make([]byte, len(known.magic))
		if _, err := f.ReadAt(magic, known.offset); err == nil && string(magic) == known.magic {
			return known.kind, nil
		}
	}
	return "", fmt.Errorf("file system of %s: %w", device, ErrUnknownFileSystem)
}

func deviceOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
