package deploy

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/diff"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/pull"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"github.com/kairos-io/toolkit/lib/kernelargs"
)

// Side is one of two systems that are compared: a deployment, or a source.
type Side struct {
	Deployment       *Deployment
	Source           string
	InsecureRegistry string // accepted without TLS for Source, ""
}

// Subject is a system that is compared.
type Subject struct {
	ID             string `json:"id"` // of the deployment, "" for a source
	Reference      string `json:"reference"`
	ManifestDigest string `json:"manifest_digest"`
	Version        string `json:"version"`
	OS             string `json:"os"`
	Kernel         string `json:"kernel"`
	// What the labels of an image say, "" where it says nothing, and for a
	// deployment.
	Description string `json:"description"`
	URL         string `json:"url"`
	Changelog   string `json:"changelog"`
}

// Difference is an object that one of the systems has and the other one lacks.
type Difference struct {
	Old          Subject  `json:"old"`
	New          Subject  `json:"new"`
	KargsAdded   []string `json:"kargs_added"`
	KargsRemoved []string `json:"kargs_removed"`
	diff.Result
	BytesFetched int64 `json:"bytes_fetched"`
}

// opened is a side that was opened.
type opened struct {
	origin
	subject Subject
	store   *store.Store // of a deployment
	options string       // of a deployment of this node
	root    *tree.Inode
	open    boot.Content
	kargs   []string
	problem string
}

// Diff compares two systems. n is the node whose deployments they may be, and
// whose store tells what is here already; it may be nil. Of an image in a
// registry, what the store does not know is told by the tables of contents of its
// layers; layers without are fetched as a whole, into nothing.
func Diff(ctx context.Context, n *Node, from, to Side, list bool, opts source.Options, bar *progress.Reporter) (*Difference, error) {
	sides := make([]*opened, 2)
	var stores []*store.Store
	if n != nil {
		stores = append(stores, n.Store)
	}
	for i, side := range []Side{from, to} {
		o, err := n.side(ctx, side, opts)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", cmp.Or(o.subject.ID, side.Source), err)
		}
		if o.origin != nil {
			defer o.origin.Close()
		}
		if sides[i] = o; o.store != nil && (n == nil || o.store != n.Store) {
			stores = append(stores, o.store)
		}
	}
	known, err := knowledge(ctx, stores, sides)
	if err != nil {
		return nil, err
	}
	for i, o := range sides {
		bar.Phase("read "+cmp.Or(o.subject.ID, o.subject.Reference), 0)
		if err := o.read(ctx, n, known, bar.Set); err != nil {
			return nil, fmt.Errorf("compare %s: %w", cmp.Or([]Side{from, to}[i].Source, o.subject.ID), err)
		}
	}
	return compare(sides[0], sides[1], list), nil
}

func (n *Node) side(ctx context.Context, s Side, opts source.Options) (*opened, error) {
	if d := s.Deployment; d != nil {
		o := &opened{store: n.Store, options: d.Options}
		o.subject = Subject{ID: d.ID, Reference: d.Reference, ManifestDigest: d.ManifestDigest, Version: d.Version, OS: d.OS, Kernel: d.Kernel}
		image, err := imageDigest(d.Record)
		if err == nil {
			o.root, err = verifiedImage(n.Store, image)
		}
		return o, err
	}
	var err error
	o := &opened{}
	opts.InsecureRegistry = s.InsecureRegistry
	if o.origin, err = openOrigin(ctx, s.Source, opts); err != nil {
		return o, err
	}
	r := o.about()
	o.subject = Subject{Reference: r.Reference, ManifestDigest: r.ManifestDigest, Version: r.Version, OS: r.OS, Kernel: r.Kernel}
	switch from := o.origin.(type) {
	case *stored:
		o.store = from.store
	case *container:
		o.subject.notes(from.Labels)
	}
	return o, nil
}

// Labels with release notes. There is no standard for the last one.
const (
	labelDescription = "org.opencontainers.image.description"
	labelURL         = "org.opencontainers.image.url"
)

var labelsChangelog = []string{"org.opencontainers.image.changelog", "io.kairos.changelog", "changelog"}

// maxNotes is how many bytes of a label are shown.
const maxNotes = 8 << 10

func (s *Subject) notes(labels map[string]string) {
	clip := func(text string) string {
		text = strings.ToValidUTF8(strings.TrimSpace(text), "\uFFFD")
		if len(text) > maxNotes {
			text = strings.ToValidUTF8(text[:maxNotes], "") + "…"
		}
		return text
	}
	s.Description, s.URL = clip(labels[labelDescription]), clip(labels[labelURL])
	for _, name := range labelsChangelog {
		s.Changelog = cmp.Or(s.Changelog, clip(labels[name]))
	}
}

// contentsOf are the contents of several stores.
type contentsOf []*store.Contents

// knowledge returns what the stores have, where anything else is compared with it.
func knowledge(ctx context.Context, stores []*store.Store, sides []*opened) (known contentsOf, err error) {
	if !slices.ContainsFunc(sides, func(o *opened) bool { return o.store == nil }) {
		return nil, nil
	}
	for _, s := range stores {
		c, err := s.Contents(ctx)
		if err != nil {
			return nil, err
		}
		known = append(known, c)
	}
	return known, nil
}

// Empty is false: tables of contents are always of use.
func (contentsOf) Empty() bool { return false }

func (k contentsOf) Object(sum store.Sum, size int64) (fsverity.Digest, bool) {
	for _, c := range k {
		if d, ok := c.Object(sum, size); ok {
			return d, true
		}
	}
	return fsverity.Digest{}, false
}

func (k contentsOf) Inline(sum store.Sum) (string, bool) {
	for _, c := range k {
		if content, ok := c.Inline(sum); ok {
			return content, true
		}
	}
	return "", false
}

// read fills in the tree, and what the system says about itself.
func (o *opened) read(ctx context.Context, n *Node, known contentsOf, report func(done, total int64)) (err error) {
	keep := diff.NewKeep(known)
	var preview *pull.Preview
	switch from := o.origin.(type) {
	case *container:
		var cache pull.LayerCache
		if n != nil {
			cache = n.Store
		}
		if preview, err = pull.LookInto(ctx, from.Image, cache, known, keep, report); err != nil {
			return err
		}
		o.root = preview.Root
	case plainTree:
		o.root, err = tree.FromDir(ctx, from.src.Path, keep.Sink(ctx))
	case *stored:
		o.root, err = from.tree()
	}
	if err != nil {
		return err
	}
	o.open = func(node *tree.Inode) (io.ReadCloser, error) {
		if o.store != nil {
			return contentIn(o.store)(node)
		}
		if data, ok := keep.Get(node.Digest); ok && node.HasObject() {
			return io.NopCloser(bytes.NewReader(data)), nil
		}
		if n != nil && node.HasObject() && n.Store.Has(node.Digest) {
			return n.Store.OpenObject(node.Digest)
		}
		if preview != nil {
			return preview.Open(ctx, node, diff.MaxText)
		}
		if !node.HasObject() {
			return io.NopCloser(strings.NewReader(node.Content)), nil
		}
		return nil, pull.ErrNotHere
	}
	return o.describe()
}

// describe reads what the system says about itself, and normalises its tree.
func (o *opened) describe() error {
	if o.store == nil {
		// Programs are not fetched to see whether they are UKIs: what is called so is one.
		kernel, err := boot.Find(o.root, nil)
		if err == nil {
			o.subject.Kernel = kernel.Release
		}
		if release, err := boot.OSRelease(o.root, o.open); err == nil {
			o.subject.OS = cmp.Or(o.subject.OS, release["PRETTY_NAME"])
			o.subject.Version = cmp.Or(o.subject.Version, release["VERSION_ID"])
		}
		if err := tree.Normalize(o.root, tree.NormalizeOptions{SELinux: tree.HasSELinuxPolicy(o.root)}); err != nil {
			return err
		}
	}
	var err error
	if o.kargs, err = boot.Kargs(o.root, o.open); err != nil {
		o.problem = err.Error()
	}
	return nil
}

func compare(a, b *opened, list bool) *Difference {
	d := &Difference{Old: a.subject, New: b.subject, KargsAdded: []string{}, KargsRemoved: []string{}}
	d.Result = diff.Compare(diff.Image{Root: a.root, Open: a.open}, diff.Image{Root: b.root, Open: b.open}, list)
	for _, o := range []*opened{a, b} {
		if o.problem != "" {
			d.NotCompared = append(d.NotCompared, "kernel arguments: "+o.problem)
		}
		if from, ok := o.origin.(*container); ok && from.Remote() {
			d.BytesFetched += from.Fetched()
		}
	}
	if a.problem+b.problem != "" {
		return d
	}
	old, now := a.kargs, b.kargs
	if a.options != "" && b.options != "" {
		old, now = ownWords(a.options), ownWords(b.options)
	}
	for _, word := range now {
		if !slices.Contains(old, word) {
			d.KargsAdded = append(d.KargsAdded, word)
		}
	}
	for _, word := range old {
		if !slices.Contains(now, word) {
			d.KargsRemoved = append(d.KargsRemoved, word)
		}
	}
	return d
}

// ownWords are the arguments of a deployment without the digest of its image,
// which always differs.
func ownWords(options string) (words []string) {
	for word := range kernelargs.Words(options) {
		if name, _, _ := kernelargs.Cut(word); name != "kairos.image" {
			words = append(words, word)
		}
	}
	return words
}
