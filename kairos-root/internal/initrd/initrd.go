// Package initrd mounts the root of a deployment and its writable paths, in two
// steps with the node's config between them: MountRoot and MountWritable.
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
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/sdnotify"

	"github.com/kairos-io/toolkit/kairos-root/internal/blockfs"
	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
	"github.com/kairos-io/toolkit/kairos-root/internal/device"
	"github.com/kairos-io/toolkit/kairos-root/internal/image"
	"github.com/kairos-io/toolkit/kairos-root/internal/live"
	"github.com/kairos-io/toolkit/kairos-root/internal/mount"
)

// Initrd is what kairos-root works on.
type Initrd struct {
	Args    bootargs.Args
	Finder  device.Finder
	Checker blockfs.Checker
	Log     *slog.Logger
	Status  func(format string, args ...any) // progress, for the service manager
	Extend  func(time.Duration)              // asks the service manager for more time
	Run     string                           // /run
	Sysroot string                           // where the root of the system is mounted
	BootID  string                           // the kernel's boot id
	Kmsg    string                           // the kernel's log: /dev/kmsg
	// LiveFile is the medium that came with the initrd, Meminfo the /proc/meminfo.
	LiveFile, Meminfo string
	// Execute runs a program and returns its output and exit status.
	Execute func(ctx context.Context, argv ...string) (output string, status int, err error)

	deadline time.Time // until when devices are waited for, all together
	mounted  []string  // for undo, in order
}

// path returns a path beneath /run/kairos.
func (i *Initrd) path(name string) string { return filepath.Join(i.Run, "kairos", name) }

// Names beneath /run/kairos.
const (
	storeDir      = "store"      // the store, read-only, stays
	privateDir    = "private"    // the store, where it can't keep others out by itself
	persistentDir = "persistent" // COS_PERSISTENT, stays
	overlayDir    = "overlay"    // ephemeral changes, stays
	imageDir      = "image"      // metadata of the image, until the writable paths are mounted
	lowerDir      = "lower"      // the root without what is mounted on it, meanwhile
	asideDir      = "aside"      // a place to put a layer, meanwhile
)

// MountRoot mounts the store and the image, verified, at Sysroot, and the
// node's config at its /oem. It says what was booted in booted.json, in Kairos'
// sentinels and in the ESP's mount units. After an error nothing stays mounted.
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

// waiting returns the context to wait for a device in. All that are missing are
// waited for at the same time: kairos.timeout= counts once.
func (i *Initrd) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	if i.deadline.IsZero() {
		i.deadline = time.Now().Add(i.Args.Timeout)
		i.Extend(i.Args.Timeout + 5*time.Minute)
	}
	return context.WithDeadline(ctx, i.deadline)
}

// mountImage checks the image, mounts its metadata beside and the root at
// Sysroot.
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

// mountOEM mounts the node's config at /oem. A node without it still boots and
// can be reached, which is better than one that does not: what is wrong is
// reported.
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

// attach places a mount on a directory of the initrd, which it makes.
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

// attachBeneath places a mount on a directory of the system, resolved as the
// system will see it, and makes the directory where that is possible.
func (i *Initrd) attachBeneath(t *mount.Tree, target string) error {
	root, err := mount.OpenRoot(i.Sysroot)
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

// undo unmounts what was mounted, last first.
func (i *Initrd) undo() {
	for n := len(i.mounted) - 1; n >= 0; n-- {
		if err := mount.Detach(i.mounted[n]); err != nil {
			i.Log.Warn("clean up", "error", err)
		}
	}
	i.mounted = nil
}

// release unmounts one of the places that are only used meanwhile.
func (i *Initrd) release(name string) {
	if err := mount.Detach(i.path(name)); err != nil {
		i.Log.Warn("clean up", "error", err)
		return
	}
	if err := os.Remove(i.path(name)); err != nil {
		i.Log.Warn("clean up", "error", err)
	}
}

// New returns the Initrd of this machine.
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
