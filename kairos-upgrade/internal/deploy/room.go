package deploy

import (
	"context"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/kind"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// makeRoom compares the estimate of needed space with what is free, and
// collects garbage first where that helps.
func (t *staging) makeRoom(ctx context.Context) error {
	estimate, err := t.origin.estimate(ctx, t.node.Store)
	if err != nil {
		return err
	}
	if err := t.checkBoot(estimate.files); err != nil {
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
		c, err := t.node.collect(keepers, false, interrupted, t.unpublished())
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
		t.node.Log.Warn("less space than estimated", "needed", terminal.Bytes(need), "free", terminal.Bytes(free))
		return nil
	}
	return t.noSpace("store "+t.node.Store.View().Path, need, free)
}

// collected adds to what was collected.
func (t *staging) collected(c Collected) {
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

func (t *staging) noSpace(where string, need, free int64) error {
	err := fmt.Errorf("not enough space on %s: %s needed, %s free", where, terminal.Bytes(need), terminal.Bytes(free))
	if where == esp {
		if size, names := t.node.Loader.Others(); size > 0 {
			err = fmt.Errorf("%w; %s belong to other files: %s", err, terminal.Bytes(size), strings.Join(names, ", "))
		}
	}
	return t.spaceError(err)
}

// esp is what messages call it.
const esp = "the EFI system partition"

// spaceError returns an error as one of the kind that says what a person can
// remove.
func (t *staging) spaceError(err error) error {
	roles := RolesOf(t.list)
	for i := range t.list {
		// Unpinned, what has a part to play would stay.
		if d := &t.list[i]; d.Pinned && d != roles.Booted && d != roles.Next && d != roles.Previous {
			return &kind.Error{Kind: ErrPinnedSpace, About: d.ID, Err: err}
		}
	}
	if t.node.Label == disk.LabelRecovery && len(t.list) > 0 && !t.req.Replace {
		return kind.Of(ErrOldRecovery, err)
	}
	return kind.Of(ErrNoSpace, err)
}

// checkBoot refuses what the ESP has no room for, as far as it is known before
// anything is fetched: by the origin, by a deployment of the same image, or by
// an attempt that failed for it.
func (t *staging) checkBoot(files []deployment.File) error {
	n, manifest := t.node, t.about.ManifestDigest
	for _, d := range t.list {
		if len(files) == 0 && manifest != "" && d.ManifestDigest == manifest {
			files = d.Boot
		}
	}
	if len(files) == 0 && manifest != "" {
		files = n.Store.BootNeed(manifest)
	}
	if len(files) == 0 || t.req.Force || t.req.Replace {
		return nil
	}
	var known []deployment.File
	var need int64
	for _, f := range files {
		if f.Path == "" {
			need += f.Size
		} else {
			known = append(known, f)
		}
	}
	missing, err := n.Loader.Missing(known)
	if err != nil {
		return err
	}
	need += missing
	_, free, err := n.Loader.Space()
	if err != nil || need == 0 || need+boot.Reserve <= free {
		return err
	}
	c, err := n.collect(keepers, true, true, nil)
	if err != nil || need+boot.Reserve <= free+c.ESPBytes {
		return err
	}
	return t.noSpace(esp, need+boot.Reserve, free)
}

// makeRoomForBoot does the same on the ESP, where the need is known exactly.
func (t *staging) makeRoomForBoot(need int64) error {
	_, free, err := t.node.Loader.Space()
	if err != nil || need == 0 || need+boot.Reserve <= free {
		return err
	}
	c, err := t.node.collect(keepers, false, true, t.unpublished())
	if err != nil {
		return err
	}
	t.collected(c)
	if _, free, err = t.node.Loader.Space(); err != nil || need+boot.Reserve <= free {
		return err
	}
	if t.about.ManifestDigest != "" {
		if err := t.node.Store.PutBootNeed(t.about.ManifestDigest, t.contents.boot); err != nil {
			t.node.Log.Warn("the size of the boot files could not be recorded", "error", err)
		}
	}
	return t.noSpace(esp, need+boot.Reserve, free)
}

// unpublished is the record of what has been fetched, for a collection in
// between not to take it away.
func (t *staging) unpublished() []deployment.Record {
	if t.contents == nil {
		return nil
	}
	return []deployment.Record{t.record(t.contents)}
}
