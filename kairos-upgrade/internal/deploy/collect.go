package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/kind"
)

// Collected is what a garbage collection removed, or would remove.
type Collected struct {
	Deployments []string          `json:"deployments"` // ids
	BootFiles   []deployment.File `json:"boot_files"`
	store.Swept
	ESPBytes int64 `json:"esp_bytes"` // freed on the ESP
}

// Nothing reports whether there was nothing to collect.
func (c Collected) Nothing() bool {
	return len(c.Deployments) == 0 && len(c.BootFiles) == 0 && c.Objects == 0 && c.Images == 0 && c.Layers == 0
}

// Collect removes the deployments that have no part to play any more, and
// then everything that no deployment reaches. Kept are: what runs, what boots
// next, the newest good one beside these, and what is pinned. Where nothing
// is known to run from this store, two good ones are kept.
//
// A deployment is taken apart in the reverse order of its publication: first
// its entry, so that nothing incomplete can be booted.
//
// What an interrupted staging has left is kept for a week, for the next one.
func (n *Node) Collect(dryRun bool) (Collected, error) {
	return n.collect(keepers, dryRun, true, nil)
}

// collect keeps the deployments that keep names, what an interrupted staging has
// left only if it is told to, and besides what some records reach that are not
// published yet.
func (n *Node) collect(keepers func([]Deployment) []string, dryRun, interrupted bool, unpublished []deployment.Record) (c Collected, err error) {
	c.Deployments, c.BootFiles = []string{}, []deployment.File{}
	have, err := n.Inventory()
	if err := errors.Join(err, have.Complete()); err != nil {
		return c, fmt.Errorf("collect garbage: %w", err) // nothing is deleted on half a view
	}
	list := have.Deployments
	if len(list) > 0 && len(have.Orphans) == 0 && !slices.ContainsFunc(list, func(d Deployment) bool { return d.State != Incomplete }) {
		return c, kind.Errorf(ErrForeignESP, "collect garbage: none of %d deployments has a boot entry on %s", len(list), n.Loader.Path())
	}
	kept := slices.Clone(unpublished)
	keep := keepers(list)
	for _, d := range list {
		if slices.Contains(keep, d.ID) {
			kept = append(kept, d.Record)
			continue
		}
		c.Deployments = append(c.Deployments, d.ID)
		if dryRun {
			continue
		}
		if err := n.remove(d); err != nil {
			return c, fmt.Errorf("remove deployment %s: %w", d.ID, err)
		}
	}
	named, err := n.named(have, c.Deployments)
	if err != nil {
		return c, fmt.Errorf("collect garbage: %w", err)
	}
	return c, n.sweep(append(kept, named...), dryRun, interrupted, &c)
}

// named returns what the boot entries of this store name, but for those of
// deployments that go. What they name is kept whether or not a record says so:
// the boot loader goes by them alone. An image that is not there any more boots
// no more, and keeps nothing.
func (n *Node) named(have Inventory, gone []string) (records []deployment.Record, err error) {
	for _, e := range have.Orphans {
		n.Log.Warn("a boot entry has no record: its files are kept", "entry", e.Name.String())
	}
	for _, e := range have.entries {
		if id, ours := deployment.IDOfEntry(strings.ToLower(e.Name.Base)); ours && slices.Contains(gone, id) {
			continue
		}
		r := deployment.Record{ID: "of boot entry " + e.Name.String()}
		r.ImageDigest, _ = boots(e)
		image, err := imageDigest(r)
		if err != nil {
			return nil, fmt.Errorf("boot entry %s: %w", e.Name, err)
		}
		switch _, err := n.Store.Root().Lstat(store.ImagePath(image)); {
		case err == nil:
			records = append(records, r)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return records, nil
}

// keepers returns the ids of the deployments that are kept.
func keepers(list []Deployment) (ids []string) {
	r := RolesOf(list)
	for _, d := range []*Deployment{r.Booted, r.Next, r.Previous} {
		if d != nil {
			ids = append(ids, d.ID)
		}
	}
	for _, d := range list { // newest first
		switch {
		case d.Pinned:
			ids = append(ids, d.ID)
		case r.Booted == nil && d.State == Good && r.Previous != nil && d.Serial < r.Previous.Serial && (r.Next == nil || r.Next.State != Good):
			ids = append(ids, d.ID)
			r.Booted = &d // one more is enough
		}
	}
	return ids
}

func (n *Node) remove(d Deployment) error {
	if _, fixed := fixedEntry(n.Label); !fixed {
		if err := n.Loader.Remove(d.EntryBase()); err != nil {
			return err
		}
	}
	return n.Store.RemoveRecord(d.ID)
}

// sweep removes what the kept records do not reach.
func (n *Node) sweep(kept []deployment.Record, dryRun, interrupted bool, c *Collected) error {
	live, err := live(n.Store, append(kept, n.running()...))
	live.Interrupted = interrupted
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if c.Swept, err = n.Store.Sweep(live, dryRun); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	var gone []string
	for _, id := range c.Deployments {
		gone = append(gone, deployment.Record{ID: id}.EntryBase())
	}
	files, err := n.Loader.Sweep(dryRun, gone...)
	for _, f := range files {
		c.BootFiles = append(c.BootFiles, f)
		c.ESPBytes += f.Size
	}
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// running is the image that runs, which is kept even if no record says so.
func (n *Node) running() []deployment.Record {
	if n.Booted.ImageDigest == "" {
		return nil
	}
	return []deployment.Record{{ID: "that runs", ImageDigest: n.Booted.ImageDigest}}
}
