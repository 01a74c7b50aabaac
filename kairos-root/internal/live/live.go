// Package live finds the medium that a live system was booted from. Firmware
// tells little of it: a CD has no partitions in the kernel, a medium that came by
// HTTP is memory, one that came by iPXE is a file of the initramfs, and any other
// disk of the machine may be a medium of the same make.
//
// What makes a store the right one is the image in it: no medium is taken without
// the image that the kernel command line names. What no digest covers, the
// configs on COS_SEED, is taken only from the medium that was booted, and from
// none where nobody can tell.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mount"

	"github.com/kairos-io/toolkit/kairos-root/internal/device"
)

// File is where iPXE puts a medium into the initramfs: initrd URL /live.img.
const File = "/live.img"

// Finder looks for the medium.
type Finder struct {
	device.Finder
	File string // the medium in the initramfs
	// Open mounts the store on a device without attaching it anywhere. It fails
	// where the image is not in the store.
	Open func(ctx context.Context, device string) (*mount.Tree, error)

	refused map[string]error // stores without the image, by what tells them apart
}

// Medium is what was found.
type Medium struct {
	Store disk.Partition // Disk is "" in a file
	Tree  *mount.Tree    // the store, mounted
	// Seed has the configs of the medium; nil without it. Doubt says why none are
	// taken although a medium has some.
	Seed  *Part
	Doubt error
}

// Find returns the medium once it is there. It waits until the context ends.
func (f *Finder) Find(ctx context.Context) (*Medium, error) {
	var found *Medium
	var noted []string
	look := func(last bool) (err error) {
		found, noted, err = f.look(ctx, last)
		return err
	}
	waited, err := device.Await(ctx, f.Events, func() error { return look(false) })
	if errors.Is(err, disk.ErrNotFound) {
		err = look(true)
	}
	if errors.Is(err, disk.ErrNotFound) {
		looked := f.Seen()
		if len(noted) > 0 {
			looked = strings.Join(noted, "; ") + "; " + looked
		}
		return nil, exit.Hint(fmt.Errorf("waited %v: %w", waited.Round(time.Second), err),
			"looked at the disk of the boot loader, memory (pmem), CD drives, %s, and all other disks: %s; "+
				"is the driver of the medium in the initrd? kairos.timeout=SECONDS waits longer", f.File, looked)
	}
	return found, err
}

// look looks at all that there is now, once. It returns what it noted of media
// that are not the right one. Where the boot loader has told which partition it
// came from, another medium counts only when it is the last look.
func (f *Finder) look(ctx context.Context, last bool) (*Medium, []string, error) {
	uuid, err := f.System.Vars.DevicePartUUID()
	if err != nil && !errors.Is(err, efivars.ErrNotSet) {
		return nil, nil, fmt.Errorf("find %s: %w", disk.LabelLive, err)
	}
	candidates, noted, err := f.candidates(uuid)
	if err != nil {
		return nil, noted, err
	}
	var found *Medium
	var chosen candidate
	var seeds bool    // one of those that it may be has configs
	var damaged error // the medium that was booted does not have the image
	for _, c := range candidates {
		if found == nil && uuid != "" && c.kind != booted && c.kind != inFile && !last {
			noted = append(noted, fmt.Sprintf("%s is not where the boot loader came from", c.name()))
			continue
		}
		if found != nil && (chosen.certain() && c.kind != chosen.kind) {
			break
		}
		m, err := f.open(ctx, c)
		switch {
		case err != nil && c.kind == booted:
			damaged = fmt.Errorf("%s: %w", c.name(), err)
		case err != nil:
			noted = append(noted, fmt.Sprintf("%s: %v", c.name(), err))
		case found == nil:
			found, chosen, seeds = m, c, c.seed != nil
		default:
			m.Tree.Close()
			seeds = seeds || c.seed != nil
			found.Doubt = fmt.Errorf("%s and %s are media of the same image, and the firmware does not tell which of them was booted", chosen.name(), c.name())
		}
	}
	switch {
	case found == nil && damaged != nil: // waiting does not mend it
		return nil, noted, damaged
	case found == nil:
		return nil, noted, fmt.Errorf("find %s with the image: %w", disk.LabelLive, disk.ErrNotFound)
	}
	if uuid != "" && chosen.kind != booted && chosen.kind != inFile {
		found.Doubt = fmt.Errorf("%s is not the medium that the boot loader came from, which is not there", chosen.name())
	}
	if found.Doubt != nil {
		found.Seed = nil
	}
	if !seeds {
		found.Doubt = nil // it does not matter
	}
	return found, noted, nil
}

// open mounts the store of a candidate. One without the image is remembered:
// what is opened for the mount makes events itself.
func (f *Finder) open(ctx context.Context, c candidate) (*Medium, error) {
	key := strings.Join([]string{c.name(), c.store.uuid, f.sequence(c.disk)}, " ")
	if err := f.refused[key]; err != nil {
		return nil, err
	}
	m := &Medium{Store: disk.Partition{Disk: c.disk, Label: disk.LabelLive, UUID: c.store.uuid, Size: c.store.size}, Seed: c.seed}
	err := c.store.Use(func(path string) (err error) {
		m.Store.Path, m.Store.Name = path, filepath.Base(path)
		m.Tree, err = f.Open(ctx, path)
		return err
	})
	if err != nil {
		if f.refused == nil {
			f.refused = map[string]error{}
		}
		f.refused[key] = err
		return nil, err
	}
	return m, nil
}

// kind says where a medium is, in the order in which they are tried.
type kind int

const (
	booted  kind = iota // the disk that the boot loader came from, as it says
	memory              // what the firmware has fetched by HTTP
	inFile              // what iPXE has fetched
	optical             // a CD, or what a BMC shows as one
	other
)

// candidate is a disk or a file with a store.
type candidate struct {
	kind  kind
	disk  string // the kernel's name, "" of a file
	file  string // the disk's node, or the file
	store *Part
	seed  *Part // nil without
}

func (c candidate) name() string { return cmp.Or(c.store.path, c.file) }

// certain says that what was booted can't have come from anywhere else.
func (c candidate) certain() bool { return c.kind < optical }

// candidates returns all disks with a store, in the order in which they are
// tried, and what was noted of those that are none.
func (f *Finder) candidates(uuid string) (all []candidate, noted []string, err error) {
	all, err = f.disks(uuid)
	if err != nil {
		return nil, nil, err
	}
	for _, whole := range f.wholes() {
		c, err := f.whole(whole, uuid)
		switch {
		case err != nil:
			noted = append(noted, fmt.Sprintf("%s: %v", whole.file, err))
		case c.store != nil:
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return int(a.kind - b.kind) })
	return all, noted, nil
}

// disks returns the disks whose partitions the kernel has read.
func (f *Finder) disks(uuid string) ([]candidate, error) {
	parts, err := f.System.Partitions()
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.UUID == uuid || p.Label == disk.LabelLive {
			f.Settle(p.Disk)
		}
	}
	if parts, err = f.System.Partitions(); err != nil {
		return nil, err
	}
	var all []candidate
	for diskParts := range chunks(parts) {
		c := candidate{kind: other, disk: diskParts[0].Disk, file: filepath.Join(f.System.Dev, diskParts[0].Disk)}
		if strings.HasPrefix(c.disk, "pmem") {
			c.kind = memory
		}
		for _, p := range diskParts {
			part := &Part{path: p.Path, uuid: p.UUID, size: p.Size}
			switch {
			case p.Label == disk.LabelLive && c.store == nil:
				c.store = part
			case p.Label == disk.LabelSeed && c.seed == nil:
				c.seed = part
			}
			if uuid != "" && p.UUID == uuid {
				c.kind = booted
			}
		}
		if c.store != nil {
			all = append(all, c)
		}
	}
	return all, nil
}
