package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// storeFlags say which store and boot loader a command works on.
func storeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "store", Usage: "work on the store in `DIRECTORY`; needs --esp"},
		&cli.StringFlag{Name: "esp", Usage: "publish on the EFI system partition mounted at `DIRECTORY`; needs --store"},
		&cli.StringFlag{Name: "store-label", Usage: "`LABEL` of the store's partition (default: COS_STATE)"},
		&cli.BoolFlag{Name: "recovery", Usage: "work on the recovery system: --store-label " + disk.LabelRecovery},
	}
}

// where is a store and a boot loader, as the options name them.
type where struct {
	store, esp, label string
	given             bool // by --store and --esp, not the node's own
}

func (m machine) where(c *cli.Context) (where, error) {
	w := where{store: c.String("store"), esp: c.String("esp"), label: c.String("store-label")}
	w.given = w.store != ""
	if w.given != (w.esp != "") {
		return w, exit.Usagef("--store and --esp go together: boot entries belong to one store")
	}
	for _, short := range []struct{ option, label string }{{"recovery", disk.LabelRecovery}, {"live", disk.LabelLive}} {
		if !c.Bool(short.option) {
			continue
		}
		if w.label != "" {
			return w, exit.Usagef("--%s and another choice of the store's label exclude each other", short.option)
		}
		w.label = short.label
	}
	if w.label == "" {
		w.label = disk.LabelState
	}
	if strings.Trim(w.label, labelChars) != "" {
		return w, exit.Usagef("--store-label %q: not of the form [A-Za-z0-9_.-]", w.label)
	}
	if !w.given {
		w.esp = m.esp
	}
	return w, nil
}

const labelChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

// with opens the node that the options name, and does some work on it.
func (m machine) with(c *cli.Context, do mode, work func(*deploy.Node) error) error {
	w, err := m.where(c)
	if err != nil {
		return err
	}
	bar := progress.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	o, err := m.start(c.Context, w, begin{mode: do, bar: bar, log: logline.New(bar, c.App.Name, c.Bool("quiet"))})
	if err != nil {
		return err
	}
	if do.medium { // nothing afterwards takes a right
		err = m.confine([]string{do.reference}, []string{o.store.Name(), o.esp.Name(), m.run})
	}
	if err == nil {
		err = work(o.Node)
	}
	o.end(exit.Cancelled(c.Context, err))
	return err
}

// open opens the node that the options name for reading. The caller calls
// close.
func (m machine) open(c *cli.Context) (n *deploy.Node, close func(), err error) {
	return m.openTo(c, Look)
}

func (m machine) openTo(c *cli.Context, do mode) (n *deploy.Node, close func(), err error) {
	w, err := m.where(c)
	if err != nil {
		return nil, nil, err
	}
	bar := progress.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	o, err := m.start(c.Context, w, begin{mode: do, bar: bar, log: logline.New(bar, c.App.Name, c.Bool("quiet"))})
	if err != nil {
		return nil, nil, err
	}
	return o.Node, func() { o.end(nil) }, nil
}

func openStore(ctx context.Context, v *view.View, do mode, h store.Holder) (s *store.Store, err error) {
	switch {
	case !do.writes() && do.creates:
		s, err = store.OpenOrEmpty(v)
	case !do.writes():
		s, err = store.Open(v)
	case do.medium:
		s, err = store.CreateDeferred(ctx, v, h)
	case do.creates:
		s, err = store.Create(ctx, v, h)
	default:
		s, err = store.OpenWriter(ctx, v, h)
	}
	if errors.Is(err, store.ErrNoStore) {
		err = exit.Hint(err, "kairos-upgrade stage makes a store, in an empty directory or a fresh file system")
	}
	return s, err
}

// openStore opens the directory of a store, and reports whether the running
// system is from it.
func (m machine) openStore(w where, booted deployment.Booted, write bool) (v *view.View, running bool, err error) {
	open := view.Readonly
	if write {
		open = view.Writable
	}
	switch {
	case w.given:
		if v, err = open(w.store); err == nil {
			running = booted.Store == w.label && m.isRunning(v)
		}
	case booted.Store == w.label:
		running = true
		v, err = open(m.store)
	case booted.Store == "":
		err = exit.Hint(deployment.ErrNotBooted, "on a node this works without options; elsewhere, name a store with --store and --esp")
	case booted.Mode == deployment.Live:
		err = exit.Hint(errors.New("this is a live system, which stores nothing"),
			"kairos-install installs it on a disk; --store and --esp name another store")
	default:
		v, err = m.mount(w.label, booted.Disk, view.Mount)
	}
	if err != nil {
		if errors.Is(err, fs.ErrPermission) && exit.HintOf(err) == "" {
			err = exit.Hint(err, "only root can read a store; other users can ask the service on the bus: io.kairos.Upgrade1(5)")
		}
		return nil, false, fmt.Errorf("open store: %w", err)
	}
	return v, running, nil
}

// isRunning reports whether a view shows the store of the running system.
func (m machine) isRunning(v *view.View) bool {
	running, err := view.Readonly(m.store)
	if err != nil {
		return false
	}
	defer running.Close()
	a, errA := running.Device()
	b, errB := v.Device()
	return errA == nil && errB == nil && a == b
}

// mount mounts another store of this node, privately.
func (m machine) mount(label, onDisk string, mount func(device string) (*view.View, error)) (*view.View, error) {
	p, err := m.disks.FindOn(onDisk, label)
	if onDisk == "" {
		p, err = m.disks.Find(label)
	}
	if err != nil {
		return nil, err
	}
	return mount(p.Path)
}

// spare opens the other store of this node: the recovery system's for the
// installed system, and the other way round. nil when there is none.
func (m machine) spare(n *deploy.Node) (name string, s *store.Store) {
	booted, err := deployment.ReadBooted(m.booted)
	if err != nil {
		return "", nil
	}
	label, name := disk.LabelRecovery, "the recovery system's store"
	if n.Label == disk.LabelRecovery {
		label, name = disk.LabelState, "the installed system's store"
	}
	var v *view.View
	if booted.Store == label { // it runs
		v, err = view.Readonly(m.store)
	} else {
		v, err = m.mount(label, booted.Disk, view.MountReadonly)
	}
	if err == nil {
		s, err = store.Open(v)
	}
	if errors.Is(err, disk.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		n.Log.Warn("cannot read the other store", "label", label, "error", err)
		return "", nil
	}
	return name, s
}

func (m machine) openESP(w where, write bool) (*view.View, error) {
	open := view.Readonly
	if write {
		open = view.Writable
	}
	v, err := open(w.esp)
	if err == nil && !w.given && !m.isESP(v) {
		err = errors.Join(errors.New("nothing is mounted there"), v.Close())
	}
	if errors.Is(err, fs.ErrNotExist) || err != nil && !w.given {
		err = exit.Hint(err, "systemctl status efi.automount efi.mount shows why the EFI system partition is not mounted")
	}
	if err != nil {
		return nil, fmt.Errorf("open EFI system partition %s: %w", w.esp, err)
	}
	return v, nil
}

func isFAT(v *view.View) bool {
	dir, err := v.Root.Open(".")
	if err != nil {
		return false
	}
	defer dir.Close()
	var st unix.Statfs_t
	return unix.Fstatfs(int(dir.Fd()), &st) == nil && st.Type == unix.MSDOS_SUPER_MAGIC
}

func (m machine) knowsUKI() bool {
	features, err := m.disks.Vars.Features()
	return err == nil && features&efivars.FeatureType1UKI != 0
}
