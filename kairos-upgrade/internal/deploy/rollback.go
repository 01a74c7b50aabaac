package deploy

import (
	"context"
	"fmt"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

// RollbackTarget returns the deployment to which a rollback goes: the one with the
// given id or, without one, the newest good one that differs from the next one. Exit
// statuses of errors: 3, there is none; 4, it failed before and force is not set.
func RollbackTarget(list []Deployment, id string, force bool) (*Deployment, error) {
	next := RolesOf(list).Next
	if id == "" {
		for i := range list {
			if d := &list[i]; d.State == Good && differs(d, next) && !d.Quarantined.Refuses() {
				return d, nil
			}
		}
		return nil, exit.WithCode(exit.Reason(fmt.Errorf("%w: there is no good deployment beside the one that boots next", ErrAlready), "no_way_back"), exit.Nothing)
	}
	d, err := Find(list, id)
	switch {
	case err != nil:
		return nil, err
	case d == next:
		return nil, exit.WithCode(exit.Reason(fmt.Errorf("%w: %s boots next", ErrAlready, d.ID), "up_to_date"), exit.Nothing)
	case force:
	case d.Quarantined.Refuses():
		err = exit.Reason(fmt.Errorf("deployment %s failed on this node: %s", d.ID, d.Quarantined.Reason), "quarantined")
	case d.State == Bad:
		err = fmt.Errorf("deployment %s failed to boot: no tries are left", d.ID)
	}
	return d, exit.Hint(exit.WithCode(err, exit.Refused), "--force tries it again")
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
		return r, exit.Hint(err, "kairos-upgrade verify lists what else is damaged; stage the image again")
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
