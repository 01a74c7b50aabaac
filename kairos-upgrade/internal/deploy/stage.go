package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Request is an image to be staged.
type Request struct {
	Source  string
	Options source.Options
	// Force stages a quarantined image or one that is deployed already, and ignores the
	// estimate of needed space.
	Force bool
	// Replace removes the existing recovery system first, where there is no space for
	// two.
	Replace bool
	// AddKargs and DeleteKargs change the node's own kernel arguments.
	AddKargs, DeleteKargs []string
	// Title, unless "", is the title in the boot menu from now on.
	Title string
	// Volumes are encrypted volumes that belong to the node from now on, whatever
	// was expected before; NoVolume for one that isn't there any more.
	Volumes deployment.Volumes
	Origin  string // of the record
	// AllowUnverified stages in a store that has lost fs-verity: see mayBeUnverified.
	AllowUnverified bool
	// ManifestDigest, unless "", is the digest that the source must have.
	ManifestDigest string
}

// Staged is the result of a staging.
type Staged struct {
	deployment.Record
	Change
	Fetched
	ObjectsAdded int        `json:"objects_added"`
	BytesAdded   int64      `json:"bytes_added"`      // of objects, to the store
	BootBytes    int64      `json:"boot_bytes"`       // written to the ESP
	Collected    *Collected `json:"collected"`        // null when there was no need
	Seconds      float64    `json:"seconds"`          // from beginning to end
	Lifted       string     `json:"lifted,omitempty"` // reason of the quarantine that was overridden
}

// Stage makes an image boot next. Errors: ErrUpToDate, ErrQuarantined,
// ErrLostVerity, ErrCannotBoot, ErrNoSpace. After an error the machine boots as before, and the store is
// unchanged except for layers that were fetched completely.
func (n *Node) Stage(ctx context.Context, req Request) (*Staged, error) {
	begin := time.Now()
	t := &staging{node: n, req: req}
	staged, err := t.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("stage %s: %w", req.Source, err)
	}
	staged.Seconds = time.Since(begin).Seconds()
	return staged, nil
}

// staging is one run of Stage.
type staging struct {
	node   *Node
	req    Request
	origin origin
	about  deployment.Record
	list   []Deployment
	kargs  []string // the node's own
	// volumes are the encrypted volumes that the deployment expects.
	volumes deployment.Volumes
	// contents are in the store, but no record reaches them yet.
	contents *contents
	lifts    bool // what is in quarantine is taken out
	result   Staged
}

func (t *staging) run(ctx context.Context) (*Staged, error) {
	n := t.node
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	defer t.origin.Close()
	if err := errors.Join(t.mayReplace(), t.admit()); err != nil {
		return nil, err
	}
	n.warnDowngrade(changeTo(t.about.Version, t.list), t.about.Version)
	if err := t.makeRoom(ctx); err != nil {
		return nil, err
	}
	if err := n.Store.BeginTransfer(); err != nil {
		return nil, err
	}
	c, fetched, err := t.origin.fetch(ctx, n)
	if err != nil {
		return nil, t.afterFailure(ctx, err)
	}
	for _, note := range c.notes {
		n.Log.Warn(note)
	}
	t.result.Fetched = fetched
	t.contents = c
	if err := t.finish(ctx, c); err != nil {
		return nil, t.undo(ctx, err)
	}
	t.tidy(c)
	return &t.result, nil
}

// open reads what is known of the image and of the node.
func (t *staging) open(ctx context.Context) (err error) {
	t.node.Progress.Phase("look at "+t.req.Source, 0)
	t.req.Options.TempDir, t.req.Options.Log = t.node.Store.TempDir(), t.node.Log
	t.req.Options.Spool = t.node.Store
	if t.origin, err = t.node.openOrigin(ctx, t.req.Source, t.req.Options); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			t.origin.Close()
		}
	}()
	t.about = t.origin.about()
	if err := t.expect(); err != nil {
		return err
	}
	have, err := t.node.Inventory()
	if err != nil {
		return err
	}
	if have.Unreadable != nil {
		t.node.Log.Warn("some deployments are damaged", "error", have.Unreadable)
	}
	t.list = have.Deployments
	if err := t.mayBeUnverified(); err != nil {
		return err
	}
	t.volumes = t.node.volumes(t.list, t.req.Volumes)
	t.kargs, err = nodeKargs(lastKargs(t.list), t.req.AddKargs, t.req.DeleteKargs)
	return err
}

// lastKargs returns the node's own kernel arguments of what boots next.
func lastKargs(list []Deployment) []string {
	if last := last(list); last != nil {
		return last.NodeOptions
	}
	return nil
}

// lastTitle returns the node's own title of what boots next.
func lastTitle(list []Deployment) string {
	if last := last(list); last != nil {
		return last.NodeTitle
	}
	return ""
}

// finish publishes what has been fetched.
func (t *staging) finish(ctx context.Context, c *contents) error {
	n := t.node
	r := t.record(c)
	if err := errors.Join(t.admitImage(r), t.bootable(c)); err != nil {
		return err
	}
	if err := t.putBootFiles(ctx, r.Boot); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // the last moment
		return err
	}
	n.closeEditor(t.volumes)
	n.Progress.Phase("publish", 0)
	r, err := n.publish(r)
	t.result.Record = r
	t.result.Change = changeTo(r.Version, t.list)
	if t.about.Version == "" { // known only since the image is here
		n.warnDowngrade(t.result.Change, r.Version)
	}
	for _, a := range n.Store.Added() {
		if c.has(a.Digest) {
			t.result.ObjectsAdded++
			t.result.BytesAdded += a.Size
		}
	}
	return err
}

// record describes the deployment; id and serial come with publication.
func (t *staging) record(c *contents) deployment.Record {
	r := t.about
	r.Format = deployment.Format
	r.ImageDigest = "sha256:" + c.image.String()
	r.Verity = t.node.Store.Verity()
	if r.Version == "" {
		r.Version = c.version
	}
	r.OS, r.Kernel, r.Boot = c.os, c.kernel, c.boot
	r.Origin = t.req.Origin
	r.NodeOptions, r.NodeTitle = t.kargs, cmp.Or(t.req.Title, lastTitle(t.list))
	r.Options = withVolumes(options(t.node.Label, r.Verity, c.image, c.kargs, t.kargs), t.volumes)
	r.Objects, r.Bytes = len(c.objects), c.bytes
	return r
}

// putBootFiles writes kernel, initrd or UKI, after making room for them.
func (t *staging) putBootFiles(ctx context.Context, files []deployment.File) error {
	n := t.node
	need, err := n.Loader.Missing(files)
	if err != nil {
		return err
	}
	if err := t.makeRoomForBoot(need); err != nil {
		return err
	}
	n.Progress.Phase("write boot files", need)
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := n.putBootFile(f); err != nil {
			return err
		}
		n.Progress.Add(min(f.Size, need))
	}
	t.result.BootBytes = need
	return nil
}

// tidy removes what the publication has made superfluous. The deployment
// stands: a failure here is a warning.
func (t *staging) tidy(c *contents) {
	n := t.node
	if t.lifts {
		for _, d := range []string{t.about.ManifestDigest, t.result.ImageDigest} {
			if d == "" {
				continue
			}
			if _, err := n.Store.RemoveQuarantine(d); err != nil {
				n.Log.Warn("the image could not be removed from quarantine", "error", err)
			}
		}
	}
	if _, err := n.Store.Drop(c.has); err != nil {
		n.Log.Warn("objects of shadowed files could not be removed", "error", err)
	}
	if err := n.Store.PutBootNeed(t.about.ManifestDigest, nil); err != nil {
		n.Log.Warn("the recorded size of the boot files could not be removed", "error", err)
	}
	if err := n.Store.EndTransfer(); err != nil {
		n.Log.Warn("the interrupted transfer could not be removed", "error", err)
	}
	have, err := n.Inventory()
	if err == nil && len(keepers(have.Deployments)) < len(have.Deployments) {
		var collected Collected
		if collected, err = n.Collect(false); err == nil {
			t.collected(collected)
		}
	}
	if err != nil {
		n.Log.Warn("old deployments could not be removed", "error", err)
	}
}
