package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/kind"
)

// stored is a deployment in another store.
type stored struct {
	store  *store.Store
	record deployment.Record
	given  string
}

func openStored(src source.Source) (origin, error) {
	v, err := view.Readonly(src.Path)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", src.Given, err)
	}
	s, err := store.Open(v)
	if err != nil {
		return nil, err
	}
	r, err := pick(s, src.ID)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("source %s: %w", src.Given, err), s.Close())
	}
	return &stored{s, r, src.Given}, nil
}

// pick returns the record with an id, or the newest one.
func pick(s *store.Store, id string) (deployment.Record, error) {
	all := s.Records()
	if all.Unreadable != nil {
		return deployment.Record{}, all.Unreadable
	}
	records := all.Readable
	if id == "" && len(records) > 0 {
		return records[len(records)-1], nil
	}
	for _, r := range records {
		if r.ID == id {
			return r, nil
		}
	}
	if id == "" {
		return deployment.Record{}, ErrNoDeployment
	}
	return deployment.Record{}, fmt.Errorf("%s: %w", id, ErrNoDeployment)
}

func (o *stored) Close() error { return o.store.Close() }

// about describes the image as the other store knows it: the reference is that
// of the image, so that its upgrades can be found.
func (o *stored) about() deployment.Record {
	r := o.record
	return deployment.Record{
		ManifestDigest:   r.ManifestDigest,
		ImageDigest:      r.ImageDigest,
		Reference:        r.Reference,
		InsecureRegistry: r.InsecureRegistry,
		Version:          r.Version,
		Architecture:     r.Architecture,
		Layers:           r.Layers,
		Boot:             r.Boot,
		Kernel:           r.Kernel,
		OS:               r.OS,
	}
}

// toFetch is nothing: all of it is here.
func (o *stored) toFetch(*store.Store) (known int, size int64) { return len(o.record.Layers), 0 }

func (o *stored) estimate(_ context.Context, s *store.Store) (n need, err error) {
	root, err := o.tree()
	if err != nil {
		return n, err
	}
	n.exact = true
	c := &contents{boot: o.record.Boot}
	c.count(root)
	for d, size := range c.objects {
		if s == nil || !s.Has(d) {
			n.store += onDisk(size)
		}
	}
	n.files = o.record.Boot
	for _, f := range n.files {
		n.boot += f.Size
	}
	if s == nil {
		image, _ := imageDigest(o.record) // tree has read it
		info, err := o.store.Root().Stat(store.ImagePath(image))
		if err != nil {
			return n, err
		}
		n.store += info.Size()
	}
	return n, nil
}

func (o *stored) digest(context.Context, func(done, total int64)) (d fsverity.Digest, err error) {
	if _, err := o.tree(); err != nil {
		return d, err
	}
	return imageDigest(o.record)
}

func (o *stored) check(ctx context.Context) (store.Live, error) {
	all, err := live(o.store, []deployment.Record{o.record})
	if err != nil {
		return all, err
	}
	for d := range all.Objects {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		if _, err := o.store.CheckObject(d); err != nil {
			return all, explainDamage(err, o.given)
		}
	}
	return all, nil
}

// tree reads the image after comparing it with the digest in the record.
func (o *stored) tree() (*tree.Inode, error) {
	d, err := imageDigest(o.record)
	if err != nil {
		return nil, err
	}
	return verifiedImage(o.store, d)
}

func (o *stored) copyImage(w io.Writer) error {
	d, err := imageDigest(o.record)
	if err != nil {
		return err
	}
	f, err := o.store.OpenImage(d)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func (o *stored) fetch(ctx context.Context, n *Node) (*contents, Fetched, error) {
	root, err := o.tree()
	if err != nil {
		return nil, Fetched{}, fmt.Errorf("source %s: %w", o.given, err)
	}
	c := &contents{boot: o.record.Boot, kernel: o.record.Kernel}
	c.count(root)
	n.Progress.Phase("copy "+o.given, c.bytes)
	for d, size := range c.objects {
		if err := n.Store.Copy(ctx, o.store, d); err != nil {
			return nil, Fetched{}, explainDamage(err, o.given)
		}
		n.Progress.Add(size)
	}
	if err := n.Store.Commit(ctx); err != nil {
		return nil, Fetched{}, explainDamage(err, o.given)
	}
	if err := c.describe(n.Store, root); err != nil {
		return nil, Fetched{}, err
	}
	if err := o.copyLayers(n.Store); err != nil {
		return nil, Fetched{}, err
	}
	c.image, err = n.Store.PutImage(o.copyImage)
	if err == nil && "sha256:"+c.image.String() != o.record.ImageDigest {
		err = fmt.Errorf("write image: %w: %s is to be %s", fsverity.ErrMismatch, c.image, o.record.ImageDigest)
	}
	return c, Fetched{}, err
}

// copyLayers takes over what is known of the image's layers, so that an
// upgrade need not fetch those that it shares. One that is not known there is
// fetched when it is needed.
func (o *stored) copyLayers(s *store.Store) error {
	s.CopyContents(o.store)
	for _, diffID := range o.record.Layers {
		if s.Knows(diffID) {
			continue
		}
		l, err := o.store.Load(diffID)
		if err != nil {
			continue
		}
		if err := s.Save(diffID, l); err != nil {
			return err
		}
	}
	return nil
}

func explainDamage(err error, given string) error {
	if errors.Is(err, fsverity.ErrMismatch) {
		return kind.Errorf(ErrDamagedSource, "source %s is damaged: %w", given, err)
	}
	return err
}
