package deploy

import (
	"context"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
)

// makeRoom compares the estimate of needed space with what is free, and
// collects garbage first where that helps.
func (t *transaction) makeRoom(ctx context.Context) error {
	estimate, err := t.origin.estimate(ctx, t.node.Store)
	if err != nil {
		return err
	}
	need := estimate.store
	_, free, err := t.node.Store.View().Space()
	if err != nil || need <= free {
		return err
	}
	if t.req.Replace && len(t.list) > 0 && RolesOf(t.list).Next == nil {
		return t.replace(ctx, need, free) // it was begun before: there is no entry any more
	}
	// What an interrupted attempt had fetched, of this image or of another, goes
	// only if the rest is not enough.
	for _, interrupted := range []bool{true, false} {
		c, err := t.node.collect(false, interrupted, t.unpublished())
		if err != nil {
			return err
		}
		t.collected(c)
		if estimate, err = t.origin.estimate(ctx, t.node.Store); err != nil {
			return err
		}
		need = estimate.store
		if _, free, err = t.node.Store.View().Space(); err != nil || need <= free {
			return err
		}
	}
	if t.req.Replace {
		return t.replace(ctx, need, free)
	}
	if t.req.Force {
		t.node.Log.Warn("less space than estimated", "needed", progress.Bytes(need), "free", progress.Bytes(free))
		return nil
	}
	return t.noSpace("store "+t.node.Store.View().Path, need, free)
}

// collected adds to what was collected.
func (t *transaction) collected(c Collected) {
	if before := t.result.Collected; before != nil {
		c.Deployments = append(before.Deployments, c.Deployments...)
		c.BootFiles = append(before.BootFiles, c.BootFiles...)
		c.Objects += before.Objects
		c.Images += before.Images
		c.Layers += before.Layers
		c.Bytes += before.Bytes
		c.ESPBytes += before.ESPBytes
	}
	t.result.Collected = &c
}

func (t *transaction) noSpace(where string, need, free int64) error {
	err := fmt.Errorf("not enough space on %s: %s needed, %s free", where, progress.Bytes(need), progress.Bytes(free))
	return exit.Hint(exit.WithCode(err, exit.NoSpace), "%s", t.whatHelps())
}

// whatHelps says what a person can remove.
func (t *transaction) whatHelps() string {
	var pinned []string
	for _, d := range t.list {
		if d.Pinned {
			pinned = append(pinned, d.ID)
		}
	}
	if len(pinned) > 0 {
		return fmt.Sprintf("pinned deployments can be given up: kairos-upgrade unpin %s", pinned[0])
	}
	if t.node.Label == disk.LabelRecovery && len(t.list) > 0 && !t.req.Replace {
		return "there is no room for two recovery systems: --replace gives up the old one before the new one is complete"
	}
	return "everything that is not needed for going back has been removed; a larger partition or a smaller image is needed"
}

// makeRoomForBoot does the same on the ESP, where the need is known exactly.
func (t *transaction) makeRoomForBoot(need int64) error {
	_, free, err := t.node.Loader.Space()
	if err != nil || need == 0 || need+boot.Reserve <= free {
		return err
	}
	c, err := t.node.collect(false, true, t.unpublished())
	if err != nil {
		return err
	}
	t.collected(c)
	if _, free, err = t.node.Loader.Space(); err != nil || need+boot.Reserve <= free {
		return err
	}
	return t.noSpace("the EFI system partition", need+boot.Reserve, free)
}

// unpublished is the record of what has been fetched, for a collection in
// between not to take it away.
func (t *transaction) unpublished() []deployment.Record {
	if t.contents == nil {
		return nil
	}
	return []deployment.Record{t.record(t.contents)}
}
