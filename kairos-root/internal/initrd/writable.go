package initrd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/report"

	"github.com/kairos-io/toolkit/kairos-root/internal/layout"
	"github.com/kairos-io/toolkit/kairos-root/internal/plan"
	"github.com/kairos-io/toolkit/kairos-root/internal/sysroot"
)

// layoutFiles are the layout files, beneath /run, that the stage rootfs writes, in
// Kairos' order.
var layoutFiles = []string{"cos/cos-layout.env", "cos/custom-layout.env", "cos/extra-layout.env"}

// MountWritable mounts the writable paths over the root of MountRoot, and writes the
// machine id. It returns an error only if the system cannot start: a persistent path
// that fails becomes ephemeral, and the report says so. After an error none of its
// mounts remains.
func (i *Initrd) MountWritable(ctx context.Context) (err error) {
	read, err := readReport(i.Run)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the root is not mounted yet: kairos-root mount comes first")
	}
	if err != nil {
		return err
	}
	r := &read
	if r.Writable {
		return errors.New("the writable paths are mounted already")
	}
	defer func() {
		if err != nil {
			i.undo()
		}
	}()
	l := i.layout(r)
	r.Overlay = l.OverlaySize
	if mode := r.Booted.Mode; mode == deployment.Active || mode == deployment.Passive {
		i.mountPersistent(ctx, r)
	}
	if err := i.mountBases(l); err != nil {
		return err
	}
	if err := i.mountPlan(ctx, r, l); err != nil {
		return err
	}
	if err := i.machineID(r); err != nil {
		return fmt.Errorf("set machine id: %w", err)
	}
	i.release(lowerDir)
	i.release(imageDir)
	r.Writable = true
	if r.Booted.Foreign != "" { // it is known since the announcement
		if err := i.writeJSON("booted.json", r.Booted); err != nil {
			return err
		}
	}
	keep := append([]Mount{{Target: report.Dir + "/" + overlayDir, Kind: "ephemeral changes", Source: "kairos-overlay"}}, r.Mounts...)
	if r.Persistent != "" {
		keep = append(keep, Mount{Target: report.Dir + "/" + persistentDir, Kind: disk.LabelPersistent, Source: r.Persistent})
	}
	return errors.Join(i.keepMounted(keep...), i.writeReport(r))
}

// layout returns the default layout with the additions of the node's config. Mistakes
// in the config are problems in the report and do not stop the boot.
func (i *Initrd) layout(r *Report) layout.Layout {
	l := layout.Default()
	if !i.hasTmpMount() {
		l.Ephemeral = append(l.Ephemeral, "/tmp")
	}
	for _, name := range layoutFiles {
		file := filepath.Join(i.Run, name)
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = l.Add(file, data)
		}
		if err != nil {
			i.degraded(r, "layout", err)
		}
	}
	return l
}

// mountPersistent mounts COS_PERSISTENT. A failure is reported but does not stop the
// boot; boot assessment judges whether the boot is good.
func (i *Initrd) mountPersistent(ctx context.Context, r *Report) {
	part, err := i.Finder.FindOn(r.Booted.Disk, disk.LabelPersistent)
	if errors.Is(err, disk.ErrNotFound) {
		i.Status("Waiting for %s", disk.LabelPersistent)
		wait, cancel := i.waiting(ctx)
		defer cancel()
		part, err = i.Finder.Find(wait, disk.LabelPersistent)
	}
	source := part.Path
	if err == nil {
		source, err = i.unlocked(ctx, disk.LabelPersistent, part.Path)
	}
	var t *mount.Tree
	if err == nil {
		// Nobody works here; the binds have attributes of their own.
		t, err = i.create(ctx, fileSystem{device: source, attr: mount.NoDev | mount.NoSuid | mount.NoExec}, r)
	}
	if err == nil {
		err = i.attach(t, i.path(persistentDir))
	}
	if err != nil {
		i.foreign(r, disk.LabelPersistent, err)
		i.degraded(r, disk.LabelPersistent, fmt.Errorf("data is lost at the next reboot: %w", err))
		return
	}
	r.Persistent = source
}

// mountBases mounts the file systems behind the writable paths: a tmpfs for ephemeral
// changes, and a copy of the root without later mounts.
func (i *Initrd) mountBases(l layout.Layout) error {
	memory, err := mount.FileSystem{
		Type:    "tmpfs",
		Options: []mount.Option{{Key: "source", Value: "kairos-overlay"}, {Key: "size", Value: l.OverlaySize}, {Key: "mode", Value: "0755"}},
		Attr:    mount.NoDev | mount.NoSuid | mount.NoExec,
	}.Create()
	if err != nil {
		return err
	}
	if err := i.attach(memory, i.path(overlayDir)); err != nil {
		return err
	}
	root, err := sysroot.Open(i.Sysroot)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Dir("/")
	if err != nil {
		return err
	}
	defer dir.Close()
	view, err := mount.Clone(dir)
	if err != nil {
		return err
	}
	return i.attach(view, i.path(lowerDir))
}

// mountPlan makes the plan and executes it.
func (i *Initrd) mountPlan(ctx context.Context, r *Report, l layout.Layout) error {
	e, err := i.newExecutor(r)
	if err != nil {
		return err
	}
	defer e.close()
	p := plan.Make(e.lower.FS().(fs.ReadLinkFS), l, r.Persistent != "")
	for line := range strings.Lines(p.String()) {
		i.Log.Debug(strings.TrimSpace(line))
	}
	for _, s := range p.Skipped {
		i.Log.Info("not writable", "path", s.Path, "reason", s.Reason)
	}
	e.plan, r.Skipped = p, append([]plan.Skip{}, p.Skipped...)
	for n, s := range p.Steps {
		i.Status("Mounting %s", s.Path)
		err := e.step(ctx, s)
		switch {
		case err == nil:
			r.Mounts = append(r.Mounts, Mount{Path: s.Path, Target: s.Target, Kind: string(s.Kind), Source: s.State + s.Source})
		case s.Kind == plan.Ephemeral && s.Lower:
			return fmt.Errorf("make %s writable: %w", s.Path, err)
		default:
			i.degraded(r, s.Path, err)
			if err := e.instead(s, p.Steps[:n]); err != nil {
				return fmt.Errorf("make %s writable: %w", s.Path, err)
			}
		}
	}
	return nil
}

// volume returns the device of an additional file system.
func (i *Initrd) volume(ctx context.Context, source string) (string, error) {
	wait, cancel := i.waiting(ctx)
	defer cancel()
	return i.Finder.FindSource(wait, source)
}
