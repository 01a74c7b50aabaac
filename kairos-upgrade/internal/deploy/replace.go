package deploy

import (
	"context"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
)

// mayReplace refuses Replace where more than the owner meant could be lost: the
// new recovery system must lie on this machine, so that no registry and no
// network stands between the old one and the new.
func (t *staging) mayReplace() error {
	if !t.req.Replace {
		return nil
	}
	if len(t.about.Boot) == 0 { // what lies elsewhere doesn't say it
		return ErrNotHere
	}
	if t.node.Booted.ID != "" {
		return ErrRecoveryRuns
	}
	return nil
}

// replaced says what giving up the recovery system would free.
type replaced struct {
	live             store.Live
	bytes, bootBytes int64
}

// replace gives up the recovery system that there is, when there is room for the
// new one afterwards, and not before the new one has been read from end to end.
// From then on, until the new one is published, the node has none.
func (t *staging) replace(ctx context.Context, need, free int64) error {
	n := t.node
	r, err := t.measureReplaced(ctx)
	if err != nil {
		return err
	}
	if need > free+r.bytes {
		return t.noSpace("store "+n.Store.View().Path, need, free+r.bytes)
	}
	_, bootFree, err := n.Loader.Space()
	if err != nil {
		return err
	}
	bootNeed, err := n.Loader.Missing(t.about.Boot)
	if err != nil {
		return err
	}
	if bootNeed > bootFree+r.bootBytes {
		return t.noSpace(esp, bootNeed, bootFree+r.bootBytes)
	}
	n.Log.Warn("the old recovery system is removed: this node has none until the new one is complete")
	return t.giveUp(r)
}

// measureReplaced reads all of the new recovery system, and finds out what the
// old one would free.
func (t *staging) measureReplaced(ctx context.Context) (r replaced, err error) {
	n := t.node
	if r.live, err = t.origin.check(ctx); err != nil {
		return r, err
	}
	swept, err := n.Store.Sweep(r.live, true)
	if err != nil {
		return r, err
	}
	r.bytes = swept.Bytes
	base, _ := fixedEntry(n.Label)
	files, err := n.Loader.Sweep(true, base)
	for _, f := range files {
		r.bootBytes += f.Size
	}
	return r, err
}

// giveUp takes the recovery system apart in the reverse order of its
// publication: first the entry, so that nothing incomplete can be booted.
func (t *staging) giveUp(r replaced) error {
	n := t.node
	base, _ := fixedEntry(n.Label)
	if err := n.Loader.Remove(base); err != nil {
		return err
	}
	for _, d := range t.list {
		if err := n.Store.RemoveRecord(d.ID); err != nil {
			return err
		}
	}
	t.list = nil
	if _, err := n.Store.Sweep(r.live, false); err != nil {
		return fmt.Errorf("remove the recovery system: %w", err)
	}
	if _, err := n.Loader.Sweep(false); err != nil {
		return fmt.Errorf("remove the recovery system: %w", err)
	}
	return nil
}
