package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// Plan describes what a staging would do.
type Plan struct {
	Reference      string `json:"reference"`
	ManifestDigest string `json:"manifest_digest"`
	Version        string `json:"version"`
	Change
	Layers         int       `json:"layers"`
	LayersKnown    int       `json:"layers_known"`
	BytesToFetch   int64     `json:"bytes_to_fetch"`
	BytesEstimated int64     `json:"bytes_estimated"` // at most needed on the store
	BytesFree      int64     `json:"bytes_free"`      // on the store
	Collect        Collected `json:"collect"`         // what would be collected
	Steps          []string  `json:"steps"`           // for people, in order

	replaces bool // the recovery system that there is must be given up
}

// Plan makes all checks of Stage before the first fetch, with the same errors, and
// returns what Stage would do. It changes nothing.
func (n *Node) Plan(ctx context.Context, req Request) (*Plan, error) {
	t := &staging{node: n, req: req}
	p, err := t.plan(ctx)
	if err != nil {
		return nil, fmt.Errorf("stage %s: %w", req.Source, err)
	}
	return p, nil
}

func (t *staging) plan(ctx context.Context) (*Plan, error) {
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	defer t.origin.Close()
	if err := errors.Join(t.mayReplace(), t.admit()); err != nil {
		return nil, err
	}
	n := t.node
	p := &Plan{Reference: t.about.Reference, ManifestDigest: t.about.ManifestDigest, Version: t.about.Version,
		Change: changeTo(t.about.Version, t.list), Layers: len(t.about.Layers)}
	need, err := t.origin.estimate(ctx, n.Store)
	if err != nil {
		return nil, err
	}
	p.BytesEstimated = need.store
	if err := t.checkBoot(need.files); err != nil {
		return nil, err
	}
	if _, p.BytesFree, err = n.Store.View().Space(); err != nil {
		return nil, err
	}
	p.LayersKnown, p.BytesToFetch = t.origin.toFetch(n.Store)
	if p.Collect, err = n.Collect(true); err != nil {
		return nil, err
	}
	if p.BytesEstimated > p.BytesFree+p.Collect.Bytes && t.req.Replace {
		r, err := t.measureReplaced(ctx)
		if err != nil {
			return nil, err
		}
		p.replaces, p.Collect.Bytes = true, r.bytes
	}
	if p.BytesEstimated > p.BytesFree+p.Collect.Bytes && !t.req.Force {
		return nil, t.noSpace("store "+n.Store.View().Path, p.BytesEstimated, p.BytesFree)
	}
	p.Steps = t.steps(p)
	return p, nil
}

func (t *staging) steps(p *Plan) (steps []string) {
	add := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	if p.Downgrade {
		add("go down from version %s to %s", p.FromVersion, p.Version)
	}
	if p.replaces {
		add("remove the old recovery system: there is none until the new one is complete")
	} else if p.BytesEstimated > p.BytesFree {
		add("collect garbage: remove deployments %s", strings.Join(p.Collect.Deployments, ", "))
	}
	if p.Layers > 0 {
		add("fetch %d of %d layers, %s", p.Layers-p.LayersKnown, p.Layers, terminal.Bytes(p.BytesToFetch))
	}
	add("write new files to the store, at most about %s of %s free", terminal.Bytes(p.BytesEstimated), terminal.Bytes(p.BytesFree))
	add("write kernel and initrd to the EFI system partition, unless they are there")
	if base, fixed := fixedEntry(t.node.Label); fixed {
		add("publish %s.conf", base)
	} else {
		add("publish a new boot entry with %d tries: boots next", tries)
	}
	if i := slices.IndexFunc(t.list, func(d Deployment) bool { return d.Booted }); i >= 0 {
		add("keep %s, which is running", t.list[i].ID)
	}
	return steps
}

// Inspected describes an image, without a store.
type Inspected struct {
	Reference      string   `json:"reference"`
	ManifestDigest string   `json:"manifest_digest,omitempty"`
	ImageDigest    string   `json:"image_digest,omitempty"` // of a deployment in a store
	Version        string   `json:"version,omitempty"`
	OS             string   `json:"os,omitempty"`
	Kernel         string   `json:"kernel,omitempty"`
	Architecture   string   `json:"architecture"`
	Layers         []string `json:"layers"`      // DiffIDs
	BytesFetch     int64    `json:"bytes_fetch"` // to be fetched when nothing is known
	BytesStore     int64    `json:"bytes_store"` // needed in an empty store
	BytesBoot      int64    `json:"bytes_boot"`  // needed on the ESP; 0 when unknown
	Exact          bool     `json:"exact"`       // whether bytes_store and bytes_boot are
}

// Inspect returns what staging an image into an empty store would need. It reads only
// the image's description.
func Inspect(ctx context.Context, given string, opts source.Options) (*Inspected, error) {
	o, err := openOrigin(ctx, given, opts)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", given, err)
	}
	defer o.Close()
	r := o.about()
	in := &Inspected{
		Reference: r.Reference, ManifestDigest: r.ManifestDigest, Version: r.Version,
		Architecture: r.Architecture, Layers: append([]string{}, r.Layers...),
		ImageDigest: r.ImageDigest, OS: r.OS, Kernel: r.Kernel,
	}
	_, in.BytesFetch = o.toFetch(nil)
	need, err := o.estimate(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", given, err)
	}
	in.BytesStore, in.BytesBoot, in.Exact = need.store, need.boot, need.exact
	return in, nil
}
