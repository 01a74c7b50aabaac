package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/kind"
)

// Offer is an image that could be staged.
type Offer struct {
	Reference      string `json:"reference"`
	ManifestDigest string `json:"manifest_digest"`
	Version        string `json:"version"` // "" when the image does not say it
	Change
	Layers       int   `json:"layers"`
	LayersKnown  int   `json:"layers_known"`
	BytesToFetch int64 `json:"bytes_to_fetch"` // at most

	// Deployed is the newest deployment of the image, nil when there is none.
	Deployed *Deployment `json:"-"`
	// Quarantined is the image's quarantine entry: it failed on this node.
	Quarantined      *deployment.Quarantine `json:"-"`
	InsecureRegistry string                 `json:"-"` // accepted without TLS, ""
}

// Change describes the change of versions between two deployments.
type Change struct {
	FromVersion string `json:"from_version"` // of the running deployment, or of the next one; "" when unknown
	Downgrade   bool   `json:"downgrade"`    // whether that is newer
}

// changeTo compares a version with that of what runs, or of what boots next
// where nothing is known to run from this store.
func changeTo(version string, list []Deployment) (c Change) {
	roles := RolesOf(list)
	if from := cmp.Or(roles.Booted, roles.Next); from != nil {
		c.FromVersion = from.Version
	}
	c.Downgrade = older(version, c.FromVersion)
	return c
}

// older reports whether a version is older than another; one that is not
// known is not. A v before a number makes no difference.
func older(version, than string) bool {
	trim := func(v string) string {
		if len(v) > 1 && (v[0] == 'v' || v[0] == 'V') && v[1] >= '0' && v[1] <= '9' {
			return v[1:]
		}
		return v
	}
	return version != "" && than != "" && bls.CompareVersions(trim(version), trim(than)) < 0
}

// warnDowngrade warns of a downgrade.
func (n *Node) warnDowngrade(c Change, version string) {
	if c.Downgrade {
		n.Log.Warn("this is a downgrade", "from", c.FromVersion, "to", version)
	}
}

// Look opens an image and describes what staging it would mean. It reads only the
// image's description and, for the exact number of bytes, the tables of contents of its
// layers. It returns the errors of Stage about unavailable images.
func (n *Node) Look(ctx context.Context, given string, opts source.Options, exact bool) (*Offer, error) {
	opts.Log = n.Log
	if src, err := source.Parse(given); err == nil && src.Kind != source.KindImage {
		return nil, kind.Errorf(source.ErrUsage, "source %q is not an image", given)
	}
	c, err := n.openOrigin(ctx, given, opts)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	have, err := n.Inventory()
	if err != nil {
		return nil, err
	}
	list := have.Deployments
	r := c.about()
	o := &Offer{
		Reference: r.Reference, ManifestDigest: r.ManifestDigest, Version: r.Version,
		Change: changeTo(r.Version, list), Layers: len(r.Layers), InsecureRegistry: r.InsecureRegistry,
	}
	if exact {
		if _, err := c.estimate(ctx, n.Store); err != nil {
			return nil, err
		}
	}
	o.LayersKnown, o.BytesToFetch = c.toFetch(n.Store)
	for i := range list { // newest first
		if list[i].ManifestDigest == r.ManifestDigest {
			o.Deployed = &list[i]
			break
		}
	}
	o.Quarantined, err = n.quarantined(r.ManifestDigest)
	return o, err
}

// ErrMoved says that a tag names another image than before.
var ErrMoved = errors.New("the tag names another image by now")

// expect refuses an image that is not the one that was decided upon.
func (t *staging) expect() error {
	want := t.req.ManifestDigest
	if want == "" || want == t.about.ManifestDigest {
		return nil
	}
	return fmt.Errorf("%w: %s, not %s", ErrMoved, t.about.ManifestDigest, want)
}
