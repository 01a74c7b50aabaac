package initrd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/mount"

	"github.com/kairos-io/toolkit/kairos-root/internal/image"
	"github.com/kairos-io/toolkit/kairos-root/internal/plan"
	"github.com/kairos-io/toolkit/kairos-root/internal/seed"
	"github.com/kairos-io/toolkit/kairos-root/internal/sysroot"
)

// executor executes the steps of a plan.
type executor struct {
	*Initrd
	lower      *os.Root // the root without the mounts on it
	persistent *os.Root // COS_PERSISTENT; nil without
	overlay    *os.Root // tmpfs for ephemeral changes
	plan       plan.Plan
	report     *Report
}

func (i *Initrd) newExecutor(r *Report) (*executor, error) {
	e := &executor{Initrd: i, report: r}
	var err error
	if e.lower, err = os.OpenRoot(i.path(lowerDir)); err != nil {
		return nil, err
	}
	if e.overlay, err = os.OpenRoot(i.path(overlayDir)); err != nil {
		e.close()
		return nil, err
	}
	if mounted, _ := mount.IsMountPoint(i.path(persistentDir)); mounted {
		if e.persistent, err = os.OpenRoot(i.path(persistentDir)); err != nil {
			e.close()
			return nil, err
		}
	}
	return e, nil
}

func (e *executor) close() {
	for _, root := range []*os.Root{e.lower, e.overlay, e.persistent} {
		if root != nil {
			root.Close()
		}
	}
}

// step mounts one step.
func (e *executor) step(ctx context.Context, s plan.Step) error {
	switch s.Kind {
	case plan.Ephemeral:
		return e.ephemeral(s)
	case plan.Overlay:
		return e.keepChanges(s)
	case plan.Bind:
		return e.bind(s)
	case plan.Volume:
		return e.mountVolume(ctx, s)
	}
	return fmt.Errorf("unknown kind of mount %q", s.Kind)
}

// ephemeral mounts an overlay with changes in memory.
//
// Its lower layers are the image's metadata and the objects, not the root, which is an
// overlay itself: the kernel stacks at most two overlays, and the second level is left
// to systemd-confext(8) and to containers.
func (e *executor) ephemeral(s plan.Step) error {
	name := strings.ReplaceAll(strings.Trim(s.Target, "/"), "/", "-")
	upper, work := filepath.Join(name, "upper"), filepath.Join(name, "work")
	if err := e.overlay.MkdirAll(work, 0o700); err != nil {
		return err
	}
	filler := seed.Seeder{Image: e.lower, Node: e.overlay}
	if _, err := filler.Dir(upper, relative(s.Target), false); err != nil {
		return err
	}
	if !s.Lower {
		return e.mountDir(overlayDir, upper, s.Target)
	}
	o := image.Overlay{
		Lower: []string{e.path(imageDir) + s.Target}, Objects: e.path(storeDir + "/" + image.Objects), Verity: e.Args.Verity,
		Upper: e.path(filepath.Join(overlayDir, upper)), Work: e.path(filepath.Join(overlayDir, work)),
	}
	if info, err := os.Lstat(o.Lower[0]); err != nil || !info.IsDir() {
		// A mount point that was added.
		o.Lower, o.Objects = []string{e.path(lowerDir) + s.Target}, ""
	}
	return e.mountOverlay(o, s.Target)
}

// keepChanges mounts an overlay with changes on COS_PERSISTENT. Its lower layer is the
// directory of the image, never the ephemeral overlay above it.
func (e *executor) keepChanges(s plan.Step) error {
	filler := seed.Seeder{Image: e.lower, Node: e.persistent}
	if _, err := filler.Dir(s.State, relative(s.Target), false); err != nil {
		return err
	}
	if err := e.persistent.MkdirAll(s.Work, 0o700); err != nil {
		return err
	}
	return e.mountOverlay(image.Overlay{
		Lower: []string{e.path(lowerDir) + s.Target},
		Upper: e.path(filepath.Join(persistentDir, s.State)), Work: e.path(filepath.Join(persistentDir, s.Work)),
	}, s.Target)
}

func (e *executor) mountOverlay(o image.Overlay, target string) error {
	t, err := o.Create(attributes(target))
	if err != nil {
		return err
	}
	return e.attachBeneath(t, target)
}

// bind mounts a directory of COS_PERSISTENT. If the plan says so, a new directory is
// filled from the image.
func (e *executor) bind(s plan.Step) error {
	filler := seed.Seeder{Image: e.lower, Node: e.persistent}
	if s.Path == plan.Local {
		if s.Lower {
			if err := filler.Complete(s.State, relative(s.Target), e.overlaid(s.Target)); err != nil {
				return err
			}
		}
	} else if made, err := filler.Dir(s.State, relative(s.Target), s.Seed); err != nil {
		return err
	} else if made && s.Seed {
		e.Log.Info("filled from the image", "path", s.Path)
	}
	return e.mountDir(persistentDir, s.State, s.Target)
}

// mountDir mounts a directory of a file system for changes.
func (e *executor) mountDir(place, name, target string) error {
	root, err := sysroot.Open(e.path(place))
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Dir(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	t, err := mount.Clone(dir)
	if err != nil {
		return err
	}
	if err := t.SetAttr(attributes(target)); err != nil {
		t.Close()
		return err
	}
	return e.attachBeneath(t, target)
}

// overlaid returns the directories beneath target that get their own mount, relative,
// for os.Root.
func (e *executor) overlaid(target string) []string {
	var dirs []string
	for _, s := range e.plan.Steps {
		if strings.HasPrefix(s.Target, target+"/") {
			dirs = append(dirs, relative(s.Target))
		}
	}
	return dirs
}

func (e *executor) mountVolume(ctx context.Context, s plan.Step) error {
	device, err := e.volume(ctx, s.Source)
	if err != nil {
		return err
	}
	t, err := e.create(ctx, fileSystem{device: device, attr: mount.NoDev}, e.report)
	if err != nil {
		return err
	}
	return e.attachBeneath(t, s.Target)
}

// instead makes the path of a failed step writable in memory, unless an earlier step
// has done that.
func (e *executor) instead(s plan.Step, before []plan.Step) error {
	for _, b := range before {
		if strings.HasPrefix(s.Target, b.Target+"/") {
			return nil
		}
	}
	if !s.Lower {
		return nil
	}
	return e.ephemeral(s)
}

// attributes returns the mount attributes of a writable path: device nodes work beneath
// /var only, where container runtimes unpack images.
func attributes(target string) int {
	if target == "/var" || strings.HasPrefix(target, "/var/") {
		return 0
	}
	return mount.NoDev
}

// relative converts an absolute path for os.Root.
func relative(target string) string { return strings.TrimPrefix(target, "/") }
