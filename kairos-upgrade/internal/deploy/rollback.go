package deploy

import (
	"context"
	"fmt"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/kind"
)

// RollbackTarget returns the deployment to which a rollback goes: the one with the
// given id or, without one, the newest good one that differs from the next one. Errors:
// ErrNoWayBack and ErrUpToDate; ErrQuarantined and ErrNoTries unless force is set.
func RollbackTarget(list []Deployment, id string, force bool) (*Deployment, error) {
	next := RolesOf(list).Next
	if id == "" {
		for i := range list {
			if d := &list[i]; d.State == Good && differs(d, next) && !d.Quarantined.Refuses() {
				return d, nil
			}
		}
		return nil, ErrNoWayBack
	}
	d, err := Find(list, id)
	switch {
	case err != nil:
		return nil, err
	case d == next:
		return nil, fmt.Errorf("%w: %s boots next", ErrUpToDate, d.ID)
	case force:
	case d.Quarantined.Refuses():
		err = kind.Errorf(ErrQuarantined, "deployment %s failed on this node: %s", d.ID, d.Quarantined.Reason)
	case d.State == Bad:
		err = kind.Errorf(ErrNoTries, "deployment %s failed to boot: no tries are left", d.ID)
	}
	return d, err
}

func differs(a, b *Deployment) bool {
	return b == nil || a.ImageDigest != b.ImageDigest || a.Options != b.Options
}

// Rollback deploys an older deployment's image again: with the next serial, new tries,
// the same boot files and kernel arguments. It fetches nothing, and the order of boots
// follows from file names, as always.
func (n *Node) Rollback(ctx context.Context, to *Deployment) (deployment.Record, error) {
	r, err := n.redeploy(ctx, to.Record)
	if err != nil {
		return r, fmt.Errorf("roll back to %s: %w", to.ID, err)
	}
	return r, nil
}

func (n *Node) redeploy(ctx context.Context, r deployment.Record) (deployment.Record, error) {
	image, err := imageDigest(r)
	if err != nil {
		return r, err
	}
	if err := n.Store.CheckImage(image); err != nil {
		return r, kind.Of(ErrDamaged, err)
	}
	for _, f := range r.Boot {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if err := n.putBootFile(f); err != nil {
			return r, err
		}
	}
	have, err := n.Inventory()
	if err != nil {
		return r, err
	}
	v := n.volumes(have.Deployments, nil)
	r.Options = withVolumes(r.Options, v)
	n.closeEditor(v)
	r.Origin, r.Pinned = "rollback", false
	return n.publish(r)
}

// Pin sets whether a deployment is kept until it is unpinned, and reports whether that
// changed.
func (n *Node) Pin(id string, pinned bool) (*Deployment, bool, error) {
	have, err := n.Inventory()
	if err != nil {
		return nil, false, err
	}
	d, err := have.Find(id)
	if err != nil {
		return nil, false, err
	}
	if d.Pinned == pinned {
		return d, false, nil
	}
	d.Pinned = pinned
	return d, true, n.Store.PutRecord(d.Record)
}
