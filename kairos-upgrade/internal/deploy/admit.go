package deploy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/kind"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// admit refuses what failed before, and what there is no need to stage.
func (t *staging) admit() error {
	q, err := t.node.quarantined(t.about.ManifestDigest)
	if err != nil {
		return err
	}
	if err := t.lift(q); err != nil {
		return err
	}
	next := RolesOf(t.list).Next
	if next == nil || t.req.Force || t.about.ManifestDigest == "" || next.ManifestDigest != t.about.ManifestDigest {
		return nil
	}
	if slices.Equal(next.NodeOptions, t.kargs) && (len(t.req.Volumes) == 0 || maps.Equal(deployment.VolumesOf(next.Options), t.volumes)) {
		return t.already(next)
	}
	return nil
}

// lift refuses what is in quarantine, or notes that it was forced.
func (t *staging) lift(q *deployment.Quarantine) error {
	switch {
	case q == nil:
		return nil
	case q.Cause == deployment.Discarded:
		t.lifts = true
		return nil
	case t.req.Force:
		t.lifts, t.result.Lifted = true, q.Reason
		return nil
	case !q.Refuses():
		t.node.Log.Warn("this image had no verdict on this node, and is tried once more", "reason", q.Reason)
		return nil
	}
	return kind.Errorf(ErrQuarantined, "%s failed on this node on %s: %s", q.ManifestDigest, terminal.Time(q.Time), q.Reason)
}

func (t *staging) already(next *Deployment) error {
	how := "is staged and boots next"
	switch {
	case t.node.Fixed():
		how = "is in use"
	case next.Booted:
		how = "is running and boots next"
	}
	return fmt.Errorf("%w: deployment %s of this image %s", ErrSameImage, next.ID, how)
}

// admitImage repeats the checks of admit with what is known only now: the
// image of a source without manifest, and kernel arguments.
func (t *staging) admitImage(r deployment.Record) error {
	if r.ManifestDigest == "" {
		q, err := t.node.quarantined(r.ImageDigest)
		if err != nil {
			return err
		}
		if err := t.lift(q); err != nil {
			return err
		}
	}
	next := RolesOf(t.list).Next
	if t.req.Force || next == nil || next.ImageDigest != r.ImageDigest || next.Options != r.Options ||
		next.ManifestDigest != r.ManifestDigest || !slices.Equal(next.Boot, r.Boot) {
		return nil
	}
	return t.already(next)
}
