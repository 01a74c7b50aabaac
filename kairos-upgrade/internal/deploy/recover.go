package deploy

import (
	"context"
	"fmt"
	"slices"

	"github.com/kairos-io/toolkit/lib/kind"
)

// Revival is the deployment that the recovery system chooses for an installed system
// that does not boot.
type Revival struct {
	To      *Deployment // the deployment to deploy again; nil: the recovery system's own image
	Reason  string      // for people
	Retries bool        // it failed before, by damage that is mended
}

// Revive chooses what is to boot next after a repair of this store, which is
// not the one that runs. Errors: ErrAlready, there is no need; ErrFailed, what
// is here has failed by itself, without damage.
//
// What failed once is not tried again, unless damage was found in it that is
// mended. The recovery system's own image comes last: it is not what the node's
// owner chose for it, but it has just booted here.
func (n *Node) Revive(r *Repaired, own string) (*Revival, error) {
	have, err := n.Inventory()
	if err != nil {
		return nil, err
	}
	list := have.Deployments
	var mended, damaged []string
	for _, m := range r.Mended {
		mended = append(mended, m.deployments...)
	}
	for _, d := range r.Damaged {
		// A dry run leaves everything there, and has in Mended what it would try.
		if !slices.ContainsFunc(r.Mended, func(m Mended) bool { return m.Kind == d.Kind && m.Name == d.Name }) {
			damaged = append(damaged, d.Deployments...)
		}
	}
	whole := func(d *Deployment) bool { return !slices.Contains(damaged, d.ID) }
	if next := RolesOf(list).Next; next != nil && whole(next) && !slices.Contains(mended, next.ID) {
		return nil, fmt.Errorf("%w: %s boots next, and is undamaged: the recovery system was chosen by hand", ErrAlready, next.ID)
	}
	for i := range list { // newest first
		if d := &list[i]; whole(d) && slices.Contains(mended, d.ID) {
			return &Revival{To: d, Reason: "it is repaired", Retries: true}, nil
		}
	}
	for i := range list {
		if d := &list[i]; whole(d) && !d.Quarantined.Refuses() {
			return &Revival{To: d, Reason: "it is undamaged, and not in quarantine"}, nil
		}
	}
	for _, d := range list {
		if d.ImageDigest == own && d.Quarantined.Refuses() && whole(&d) {
			return nil, kind.Errorf(ErrFailed, "no damage was found: %s failed by itself (%s), and is the recovery system's own image", d.ID, d.Quarantined.Reason)
		}
	}
	return &Revival{Reason: "no deployment is undamaged and not in quarantine"}, nil
}

// Deploy carries a revival out, and returns the id of the new deployment.
func (n *Node) Deploy(ctx context.Context, r *Revival, own Request) (id string, err error) {
	if r.To == nil {
		staged, err := n.Stage(ctx, own)
		if err != nil {
			return "", err
		}
		return staged.ID, nil
	}
	record, err := n.Rollback(ctx, r.To)
	if err != nil {
		return "", fmt.Errorf("deploy %s once more: %w", r.To.ID, err)
	}
	// Its entry has no tries left: whoever sees that next takes it for a verdict
	// on the image.
	if err := n.remove(*r.To); err != nil {
		n.Log.Warn("the repeated deployment could not be removed", "deployment", r.To.ID, "error", err)
	}
	for _, digest := range []string{r.To.ManifestDigest, r.To.ImageDigest} {
		if digest == "" || !r.Retries {
			continue
		}
		if _, err := n.Store.RemoveQuarantine(digest); err != nil {
			n.Log.Warn("the image could not be removed from quarantine", "error", err)
		}
	}
	return record.ID, nil
}
