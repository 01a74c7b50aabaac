package initrd

import (
	"context"
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/lib/mount"

	"github.com/kairos-io/toolkit/kairos-root/internal/blockfs"
	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
)

// fileSystem is a file system on a device.
type fileSystem struct {
	device     string
	attr       int
	readOnly   bool // the superblock is read-only, too
	damagedToo bool // mount it even when errors remain after e2fsck
	foreign    bool // nothing is replayed from its journal, and only root reads what has no modes
}

// create creates the mount of a file system. It checks the file system before if
// needed, and again when mounting fails.
func (i *Initrd) create(ctx context.Context, fs fileSystem, r *Report) (*mount.Tree, error) {
	content, err := blockfs.Probe(fs.device)
	if err != nil {
		return nil, err
	}
	needed := i.Checker.Needed(content) && !fs.readOnly
	if content.Torn != nil {
		i.Log.Warn("power was cut while the superblock was written", "device", fs.device)
	}
	if needed {
		if err := i.check(ctx, fs, content, r); err != nil {
			return nil, err
		}
	}
	t, err := fs.spec(content.Type).Create()
	if err == nil || needed || fs.readOnly || content.Type != "ext4" || i.Args.Fsck == bootargs.FsckSkip {
		return t, wrapDevice(fs.device, err)
	}
	i.Log.Warn("cannot be mounted, checking it", "device", fs.device, "error", err)
	if err := i.check(ctx, fs, content, r); err != nil {
		return nil, err
	}
	t, err = fs.spec(content.Type).Create()
	return t, wrapDevice(fs.device, err)
}

func wrapDevice(device string, err error) error {
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// checkLimit is how long e2fsck may take. A node whose disk takes longer starts without
// that file system and reports it, so that somebody can log in.
const checkLimit = 45 * time.Minute

func (i *Initrd) check(ctx context.Context, fs fileSystem, content blockfs.Content, r *Report) error {
	i.Status("Checking %s", fs.device)
	i.Extend(checkLimit + time.Minute)
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	did, err := i.Checker.Check(ctx, fs.device, content)
	switch {
	case err != nil && fs.damagedToo:
		i.degraded(r, fs.device, err)
	case err != nil:
		return err
	default:
		i.Log.Info("checked", "device", fs.device, "result", did)
	}
	return nil
}

func (fs fileSystem) spec(fstype string) mount.FileSystem {
	options := []mount.Option{{Key: "source", Value: fs.device}}
	if fs.readOnly {
		options = append(options, mount.Option{Key: "ro"})
	}
	if fstype == "ext4" {
		options = append(options, mount.Option{Key: "errors", Value: "remount-ro"})
	}
	if fs.foreign {
		switch fstype {
		case "ext4":
			options = append(options, mount.Option{Key: "noload"})
		case "vfat":
			options = append(options, mount.Option{Key: "umask", Value: "0077"})
		}
	}
	return mount.FileSystem{Type: fstype, Options: options, Attr: fs.attr}
}
