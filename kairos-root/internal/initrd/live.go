package initrd

import (
	"context"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/mount"

	"github.com/kairos-io/toolkit/kairos-root/internal/image"
	"github.com/kairos-io/toolkit/kairos-root/internal/live"
)

// seedDir is where the configs of a live medium are, beneath /run: where Kairos
// and dracut have the medium.
const seedDir = "initramfs/live"

// storeAttr are the attributes of a store's mount.
const storeAttr = mount.NoDev | mount.NoSuid | mount.NoExec

// mountLive mounts the store of the medium that was booted, and its configs.
func (i *Initrd) mountLive(ctx context.Context, r *Report) (disk.Partition, error) {
	finder := live.Finder{Finder: i.Finder, File: i.LiveFile, Open: func(ctx context.Context, device string) (*mount.Tree, error) {
		return i.openLive(ctx, device, r)
	}}
	wait, cancel := i.waiting(ctx)
	defer cancel()
	m, err := finder.Find(wait)
	if err != nil {
		return disk.Partition{}, err
	}
	i.Log.Info("found the medium", "device", m.Store.Path, "disk", m.Store.Disk)
	if m.Store.Disk == "" {
		i.memory()
	}
	if err := m.Tree.SetAttr(storeAttr | mount.ReadOnly); err != nil {
		m.Tree.Close()
		return m.Store, err
	}
	if err := i.attachPrivate(m.Tree); err != nil {
		return m.Store, err
	}
	i.mountSeed(ctx, m, r)
	return m.Store, nil
}

// openLive mounts the store on a device, and refuses it where the image is not in
// it. Nothing is written, not even what a journal has left: it may be another
// machine's.
func (i *Initrd) openLive(ctx context.Context, device string, r *Report) (*mount.Tree, error) {
	t, err := i.create(ctx, fileSystem{device: device, attr: storeAttr, readOnly: true, foreign: true}, r)
	if err != nil {
		return nil, err
	}
	store, err := os.OpenRoot(t.Path())
	if err == nil {
		defer store.Close()
		var im *image.Image
		if im, err = image.Open(store, i.Args.Image, i.Args.Verity); err == nil {
			im.Close()
			return t, nil
		}
	}
	t.Close()
	return nil, err
}

// mountSeed mounts the configs of the medium, which only root reads. A live
// system without them still boots and can be reached.
func (i *Initrd) mountSeed(ctx context.Context, m *live.Medium, r *Report) {
	if m.Doubt != nil {
		i.degraded(r, disk.LabelSeed, m.Doubt)
	}
	if m.Seed == nil {
		return
	}
	var source string
	err := m.Seed.Use(func(device string) error {
		source = device
		fs := fileSystem{device: device, attr: storeAttr | mount.ReadOnly, readOnly: true, foreign: true}
		t, err := i.create(ctx, fs, r)
		if err != nil {
			return err
		}
		return i.attach(t, filepath.Join(i.Run, seedDir))
	})
	if err != nil {
		i.degraded(r, disk.LabelSeed, err)
		return
	}
	i.Log.Info("found the medium's configs", "device", source)
	target := filepath.Join("/run", seedDir)
	r.Mounts = append(r.Mounts, Mount{Path: target, Target: target, Kind: "config", Source: source})
}

// memory says when a medium in memory leaves little to the system.
func (i *Initrd) memory() {
	available, err := live.Available(i.Meminfo)
	switch {
	case err != nil:
		i.Log.Warn("count the memory", "error", err)
	case available < live.LowMemory:
		i.Log.Warn("the medium is in memory, and leaves little of it to the system",
			"available_mib", available>>20, "missing_mib", (live.LowMemory-available)>>20)
	}
}
