// Package initrd mounts the root of a deployment (MountRoot) and then its writable
// paths (MountWritable). Between the two, the node's config can change the layout.
package initrd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/sdnotify"

	"github.com/kairos-io/toolkit/kairos-root/internal/blockfs"
	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
	"github.com/kairos-io/toolkit/kairos-root/internal/device"
	"github.com/kairos-io/toolkit/kairos-root/internal/image"
	"github.com/kairos-io/toolkit/kairos-root/internal/live"
	"github.com/kairos-io/toolkit/kairos-root/internal/sysroot"
)

// Initrd is the initrd that kairos-root works in.
type Initrd struct {
	Args    bootargs.Args
	Finder  device.Finder
	Checker blockfs.Checker
	Log     *slog.Logger
	Status  func(format string, args ...any) // reports progress to the service manager
	Extend  func(time.Duration)              // asks the service manager for more time
	Run     string                           // /run
	Sysroot string                           // mount point of the system's root
	BootID  string                           // the kernel's boot id
	Kmsg    string                           // the kernel's log: /dev/kmsg
	// LiveFile is the medium that came with the initrd, Meminfo the /proc/meminfo.
	LiveFile, Meminfo string
	// Execute runs a program and returns its output and exit status.
	Execute func(ctx context.Context, argv ...string) (output string, status int, err error)

	deadline time.Time // end of all waiting for devices
	mounted  []string  // mounts in order, for undo
}

// path returns a path beneath /run/kairos.
func (i *Initrd) path(name string) string { return filepath.Join(i.Run, "kairos", name) }

// Names beneath /run/kairos.
const (
	storeDir      = "store"      // the store, read-only; stays mounted
	privateDir    = "private"    // parent of the store where its root directory cannot exclude other users
	persistentDir = "persistent" // COS_PERSISTENT; stays mounted
	overlayDir    = "overlay"    // ephemeral changes; stays mounted
	imageDir      = "image"      // metadata of the image, until the writable paths are mounted
	lowerDir      = "lower"      // the root without the mounts on it, temporary
	asideDir      = "aside"      // a place for a layer, temporary
)

// MountRoot mounts the store and the verified image at Sysroot, and the node's config
// at its /oem. It describes the booted system in booted.json, in Kairos' sentinel files
// and in the ESP's mount units. After an error nothing stays mounted.
func (i *Initrd) MountRoot(ctx context.Context) (err error) {
	if already, err := mount.IsMountPoint(i.Sysroot); err != nil || already {
		return errors.Join(err, fmt.Errorf("%s is mounted already", i.Sysroot))
	}
	defer func() {
		if err != nil {
			i.undo()
		}
	}()
	r := &Report{Added: []string{}, Skipped: []report.Skip{}, Degraded: []Problem{}}
	part, err := i.mountStore(ctx, r)
	if err != nil {
		return fmt.Errorf("mount store: %w", err)
	}
	store, err := os.OpenRoot(i.path(storeDir))
	if err != nil {
		return err
	}
	defer store.Close()
	if err := i.mountImage(store, r); err != nil {
		return err
	}
	b, err := i.describe(store, part)
	if err != nil {
		return err
	}
	r.Booted = b
	i.mountOEM(ctx, r)
	if err := i.announce(r.Booted); err != nil {
		return err
	}
	keep := append([]Mount{{Target: i.storeTarget(), Kind: "store", Source: b.Device}}, r.Mounts...)
	return errors.Join(i.keepMounted(keep...), i.writeReport(r))
}

// waiting returns the context for waiting for a device. All waits share the time of
// kairos.timeout=.
func (i *Initrd) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	if i.deadline.IsZero() {
		i.deadline = time.Now().Add(i.Args.Timeout)
		i.Extend(i.Args.Timeout + 5*time.Minute)
	}
	return context.WithDeadline(ctx, i.deadline)
}

// mountImage verifies the image, mounts its metadata, and mounts the root at Sysroot.
func (i *Initrd) mountImage(store *os.Root, r *Report) error {
	i.Status("Mounting image %.12s", i.Args.Image)
	im, err := image.Open(store, i.Args.Image, i.Args.Verity)
	if err != nil {
		return err
	}
	defer im.Close()
	metadata, err := im.Create()
	if err != nil {
		return fmt.Errorf("mount image %s: %w", i.Args.Image, err)
	}
	if err := i.attach(metadata, i.path(imageDir)); err != nil {
		return err
	}
	if err := os.MkdirAll(i.path(asideDir), 0o755); err != nil {
		return err
	}
	root, err := im.CreateRoot(i.path(imageDir), i.path(storeDir+"/"+image.Objects), i.path(asideDir))
	if err != nil {
		return err
	}
	if len(root.Added) > 0 {
		r.Added = root.Added
		i.Log.Info("the image lacks mount points, empty ones were added", "paths", root.Added)
	}
	if !i.Args.Verity {
		i.Log.Warn("contents are not verified: the kernel command line says kairos.image=?…")
	}
	return i.attach(root.Tree, i.Sysroot)
}

// mountOEM mounts the node's config at /oem. A failure is reported but does not stop
// the boot: a node without its config can still be reached.
func (i *Initrd) mountOEM(ctx context.Context, r *Report) {
	part, err := i.Finder.FindOn(r.Booted.Disk, disk.LabelOEM)
	if _, ours := i.Args.Volumes[disk.LabelOEM]; errors.Is(err, disk.ErrNotFound) && !ours {
		// In live mode only the medium's own: the disk that an installation is
		// about to overwrite has no say in it.
		i.Log.Info("no config partition on this disk", "label", disk.LabelOEM, "disk", r.Booted.Disk)
		return
	}
	source, live := part.Path, r.Booted.Mode == deployment.Live
	if err == nil && !live {
		source, err = i.unlocked(ctx, disk.LabelOEM, part.Path)
	}
	var t *mount.Tree
	if err == nil {
		t, err = i.create(ctx, fileSystem{device: source, attr: mount.NoDev | mount.NoSuid, readOnly: live}, r)
	}
	if err == nil {
		err = i.attachBeneath(t, "/oem")
	}
	if err != nil {
		i.foreign(r, disk.LabelOEM, err)
		i.degraded(r, "/oem", fmt.Errorf("the node's config is not available: %w", err))
		return
	}
	r.Mounts = append(r.Mounts, Mount{Path: "/oem", Target: "/oem", Kind: "config", Source: source})
}

// attach attaches a mount to a directory of the initrd, which it creates.
func (i *Initrd) attach(t *mount.Tree, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Close()
		return err
	}
	if err := t.AttachAt(dir); err != nil {
		return err
	}
	i.mounted = append(i.mounted, dir)
	return nil
}

// attachBeneath attaches a mount to a directory of the system, resolved beneath its
// root, and creates the directory where possible.
func (i *Initrd) attachBeneath(t *mount.Tree, target string) error {
	root, err := sysroot.Open(i.Sysroot)
	if err != nil {
		t.Close()
		return err
	}
	defer root.Close()
	at, err := root.MkdirAll(target)
	if err != nil {
		t.Close()
		return err
	}
	defer at.Close()
	if err := t.Attach(at); err != nil {
		return err
	}
	i.mounted = append(i.mounted, filepath.Join(i.Sysroot, target))
	return nil
}

// undo unmounts everything, in reverse order.
func (i *Initrd) undo() {
	for n := len(i.mounted) - 1; n >= 0; n-- {
		if err := mount.Detach(i.mounted[n]); err != nil {
			i.Log.Warn("clean up", "error", err)
		}
	}
	i.mounted = nil
}

// release unmounts one of the temporary mounts.
func (i *Initrd) release(name string) {
	if err := mount.Detach(i.path(name)); err != nil {
		i.Log.Warn("clean up", "error", err)
		return
	}
	if err := os.Remove(i.path(name)); err != nil {
		i.Log.Warn("clean up", "error", err)
	}
}

// New returns the running Initrd.
func New(args bootargs.Args, log *slog.Logger) *Initrd {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return &Initrd{
		Args:    args,
		Finder:  device.Finder{System: disk.Local(), Events: device.NewEvents},
		Checker: blockfs.Checker{Mode: args.Fsck, Repair: args.Repair, Run: blockfs.Run},
		Log:     log, Status: sdnotify.Status, Extend: sdnotify.ExtendTimeout,
		Run: "/run", Sysroot: "/sysroot", Kmsg: "/dev/kmsg", BootID: string(id), Execute: blockfs.Run,
		LiveFile: live.File, Meminfo: "/proc/meminfo",
	}
}
