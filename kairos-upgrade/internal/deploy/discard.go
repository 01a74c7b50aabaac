package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/kind"
)

// Removed is the result of a removal: the removed deployments, and the one that boots
// next.
type Removed struct {
	Next string `json:"next"` // id of the deployment that boots next, ""
	Collected
}

// Discard removes the staged deployment: the running one, or the newest good one, boots
// next. Automatic upgrades don't stage its image again.
func (n *Node) Discard(dryRun bool) (Removed, error) {
	have, err := n.Inventory()
	if err := errors.Join(err, have.Complete()); err != nil {
		return Removed{}, fmt.Errorf("discard: %w", err)
	}
	roles := have.Roles()
	stays := roles.Booted
	if stays == nil {
		stays = roles.Previous
	}
	switch {
	case n.Fixed():
		return Removed{}, kind.Errorf(ErrOneInUse, "the store %s has one deployment in use, and none is staged", n.Label)
	case roles.Staged == nil || stays == nil:
		return Removed{}, ErrNothingStaged
	}
	staged, err := before(have.Deployments, stays)
	if err != nil {
		return Removed{}, fmt.Errorf("discard: %w", &kind.Error{Kind: ErrNotDiscarded, About: stays.ID, Err: err})
	}
	return n.discard(stays, staged, dryRun)
}

// before returns the deployments that would boot before another one, if each of
// them can go: none was found good, none is pinned.
func before(list []Deployment, to *Deployment) (staged []Deployment, err error) {
	if to.entry == nil || to.State == Bad {
		return nil, fmt.Errorf("deployment %s would not boot", to.ID)
	}
	for _, d := range list {
		switch {
		case d.entry == nil || d.State == Bad || d.order >= to.order:
		case d.State != Pending || d.Booted:
			return nil, fmt.Errorf("deployment %s was booted, and is not just staged", d.ID)
		case d.Pinned:
			return nil, fmt.Errorf("deployment %s is pinned", d.ID)
		default:
			staged = append(staged, d)
		}
	}
	if len(staged) == 0 {
		return nil, fmt.Errorf("nothing boots before %s", to.ID)
	}
	return staged, nil
}

// discard removes deployments that nobody wants to boot, and remembers their
// images for the automation, unless what stays has the same: then it was not the
// image that nobody wanted.
func (n *Node) discard(stays *Deployment, staged []Deployment, dryRun bool) (Removed, error) {
	var ids []string
	for _, d := range staged {
		ids = append(ids, d.ID)
	}
	for _, d := range staged {
		if dryRun || d.ManifestDigest == "" || d.ManifestDigest == stays.ManifestDigest {
			continue
		}
		_, err := n.Store.PutQuarantine(deployment.Quarantine{
			ManifestDigest: d.ManifestDigest, ImageDigest: d.ImageDigest, Deployment: d.ID, Reference: d.Reference,
			Cause: deployment.Discarded, Reason: "discarded by hand", Time: time.Now().UTC().Truncate(time.Second),
		})
		if err != nil {
			return Removed{}, fmt.Errorf("discard %s: %w", d.ID, err)
		}
	}
	return n.removeThese(ids, dryRun)
}

// Remove removes a deployment that is not needed to boot, and the files that only it
// needs. The last deployment for a fallback is removed only with force.
func (n *Node) Remove(id string, force, dryRun bool) (Removed, error) {
	have, err := n.Inventory()
	if err := errors.Join(err, have.Complete()); err != nil {
		return Removed{}, fmt.Errorf("remove: %w", err)
	}
	d, err := have.Find(id)
	if err != nil {
		return Removed{}, fmt.Errorf("remove: %w", err)
	}
	roles := have.Roles()
	var refused error
	switch {
	case d.Booted:
		refused = ErrRunning
	case d == roles.Staged && d.State == Pending:
		refused = ErrStaged
	case d == roles.Next || n.Fixed():
		refused = ErrNext
	case d.Pinned:
		refused = &kind.Error{Kind: ErrPinned, About: d.ID, Err: ErrPinned}
	case d == roles.Previous && !force:
		refused = ErrLastFallback
	}
	if refused != nil {
		return Removed{}, fmt.Errorf("remove deployment %s: %w", d.ID, refused)
	}
	return n.removeThese([]string{d.ID}, dryRun)
}

func (n *Node) removeThese(ids []string, dryRun bool) (r Removed, err error) {
	others := func(list []Deployment) (keep []string) {
		for _, d := range list {
			if !slices.Contains(ids, d.ID) {
				keep = append(keep, d.ID)
			}
		}
		return keep
	}
	if r.Collected, err = n.collect(others, dryRun, true, nil); err != nil {
		return r, err
	}
	have, err := n.Inventory()
	if err != nil {
		return r, err
	}
	left := slices.DeleteFunc(have.Deployments, func(d Deployment) bool { return slices.Contains(ids, d.ID) })
	if next := RolesOf(left).Next; next != nil {
		r.Next = next.ID
	}
	return r, nil
}

// GoBack makes an older deployment the next boot: where others that were never
// found good stand before it, by discarding them, and otherwise by Rollback.
func (n *Node) GoBack(ctx context.Context, to *Deployment) (r deployment.Record, discarded []string, err error) {
	have, err := n.Inventory()
	if err != nil {
		return r, nil, err
	}
	staged := Discards(have.Deployments, to)
	if len(staged) == 0 {
		r, err = n.Rollback(ctx, to)
		return r, []string{}, err
	}
	removed, err := n.discard(to, staged, false)
	if err != nil {
		return r, nil, fmt.Errorf("roll back to %s: %w", to.ID, err)
	}
	return to.Record, removed.Deployments, nil
}

// Discards returns the deployments that a rollback would discard, none where it deploys
// the older image again.
func Discards(list []Deployment, to *Deployment) []Deployment {
	if to.State != Good {
		return nil
	}
	staged, err := before(list, to)
	if err != nil {
		return nil
	}
	return staged
}
