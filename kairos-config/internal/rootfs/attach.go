package rootfs

import (
	"errors"
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/lib/mount"
	"golang.org/x/sys/unix"
)

// apiFilesystems are the file systems that programs expect beneath any root, and /run,
// which the machine keeps when it switches roots.
var apiFilesystems = []string{"/dev", "/proc", "/run", "/sys"}

// InInitrd reports whether the program runs in an initrd: os-release(5).
func InInitrd() bool {
	_, err := os.Stat("/etc/initrd-release")
	return err == nil
}

// Attach mounts /dev, /proc, /run and /sys of the running system beneath the root, as
// they will be there after the switch of roots, until detach is called. The mounts
// receive later mounts from the originals but propagate none back: detach leaves the
// originals alone. Needs CAP_SYS_ADMIN.
func (r *Root) Attach() (detach func() error, err error) {
	var attached []string
	detach = func() error {
		var errs []error
		for _, target := range attached {
			errs = append(errs, mount.Detach(target))
		}
		attached = nil
		return errors.Join(errs...)
	}
	for _, dir := range apiFilesystems {
		if err := r.attach(dir); err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s beneath %s: %w", dir, r.path, err), detach())
		}
		attached = append(attached, r.path+dir)
	}
	return detach, nil
}

func (r *Root) attach(dir string) error {
	source, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := openIn(r.dir, dir[1:], unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer target.Close()
	tree, err := mount.CloneAll(source)
	if err != nil {
		return err
	}
	return tree.Attach(target)
}
