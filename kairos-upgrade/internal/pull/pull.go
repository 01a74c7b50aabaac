// Package pull makes the file system tree of an image: it fetches the layers
// that are not known yet, several at once, and merges them with those that
// are.
package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// LayerCache keeps the records of layers under their DiffIDs ("sha256:<hex>").
type LayerCache interface {
	// Load returns a layer of its own to every caller; any error means that
	// the layer is not known.
	Load(id string) (*layer.Layer, error)
	// Save keeps a layer and does not change it. Its contents have all been
	// put. It is called by one goroutine at a time.
	Save(id string, l *layer.Layer) error
}

// Options of Tree.
type Options struct {
	// Cache may be nil: then every layer is fetched.
	Cache LayerCache
	// Needed calls visit for every content of the merged tree that must be in
	// the object store; nil means all of them. Its error is that of Tree.
	Needed func(root *tree.Inode, visit func(fsverity.Digest)) error
	// Limits of each layer; those on entries and metadata hold for all layers
	// together, too.
	Limits layer.Limits
	// Known returns the contents that are here already; nil: none are.
	Known func(context.Context) (Known, error)
	// Open opens an object, which may be a new one; nil: every layer is read
	// whole.
	Open func(fsverity.Digest) (*os.File, error)
	// Survey of the image, if one was made: it is used up.
	Survey *Survey
	// Progress, if not nil, is told about bytes; see Progress.
	Progress Progress
	// Reused, if not nil, is told once, before anything is fetched, how many
	// bytes of content are here already, of how many: of a layer that is to be
	// read whole, those of its blob.
	Reused func(bytes, of int64)
	// Parallel is how many layers are fetched at once; 0 is DefaultParallel.
	Parallel int
}

// DefaultParallel keeps a link busy while one layer waits for its first byte.
// Each layer takes about 3 MiB, with zstd up to its window more.
const DefaultParallel = 3

// Stats say what Tree did.
type Stats struct {
	// Layers of the image. Of them, Reused were known, Fetched were not; of
	// those, Partial were fetched in part.
	Layers, Fetched, Partial, Reused int
	// Bytes of blobs that were fetched, in Requests, since the image was opened:
	// tables of contents are among them.
	Bytes, Requests int64
	// FilesReused is the number of files of layers whose content was here,
	// with BytesReused of content.
	FilesReused int
	BytesReused int64
}

// Tree returns the merged tree of an image, not normalised. When it returns
// without error, objects holds every content that is needed.
//
// A layer that the cache knows is reused as long as objects has those of its
// contents; what upper layers replace, or nobody needs, may be gone. Otherwise
// it is fetched again.
func Tree(ctx context.Context, img *source.Image, objects layer.Objects, o Options) (*tree.Inode, Stats, error) {
	p := &puller{
		img:     img,
		objects: objects,
		options: o,
		stale:   make(map[digest.Digest]bool),
		fresh:   make(map[digest.Digest]bool),
	}
	root, err := p.complete(ctx)
	return root, p.stats(), err
}

// complete merges the layers, once more if contents of reused ones are
// missing.
func (p *puller) complete(ctx context.Context) (*tree.Inode, error) {
	root, missing, err := p.tree(ctx)
	if err != nil || len(missing) == 0 {
		return root, err
	}
	root = nil // its memory is needed
	if err := p.forget(missing); err != nil {
		return nil, err
	}
	root, missing, err = p.tree(ctx)
	if err == nil && len(missing) > 0 {
		return nil, errors.New("objects are missing although all their layers were fetched")
	}
	return root, err
}

type puller struct {
	img     *source.Image
	objects layer.Objects
	options Options
	// stale layers are not taken from the cache, fresh ones were fetched by
	// this call.
	stale, fresh map[digest.Digest]bool
	saving       sync.Mutex

	counting sync.Mutex
	counted  Stats // of reused contents and partial layers
}

func (p *puller) stats() Stats {
	s := p.counted
	s.Layers, s.Bytes, s.Requests = len(p.img.Layers), p.img.Fetched(), p.img.Requests()
	for _, l := range p.img.Layers {
		if p.fresh[l.DiffID] {
			s.Fetched++
		} else {
			s.Reused++
		}
	}
	return s
}

// tree loads or fetches all layers and merges them. It also returns which of
// the contents needed are missing.
func (p *puller) tree(ctx context.Context) (*tree.Inode, map[fsverity.Digest]bool, error) {
	root, err := p.merge(ctx)
	if err != nil {
		return nil, nil, err
	}
	missing, err := p.missing(root)
	if err != nil {
		return nil, nil, err
	}
	return root, missing, nil
}

func (p *puller) merge(ctx context.Context) (*tree.Inode, error) {
	layers := make([]*layer.Layer, len(p.img.Layers))
	first := make(map[digest.Digest]int)
	var fetch []int
	budget := &budget{limits: p.options.Limits.WithDefaults()}
	for i, l := range p.img.Layers {
		if _, again := first[l.DiffID]; again {
			continue
		}
		first[l.DiffID] = i
		if layers[i] = p.load(l); layers[i] == nil {
			fetch = append(fetch, i)
		} else if err := budget.spend(layers[i]); err != nil {
			return nil, err
		}
	}
	if err := p.fetch(ctx, fetch, layers, budget); err != nil {
		return nil, err
	}
	for i, l := range p.img.Layers { // an image may hold a layer twice
		if at := first[l.DiffID]; at != i {
			if err := budget.spend(layers[at]); err != nil {
				return nil, err
			}
			layers[i] = layers[at].Clone()
		}
	}
	root, err := layer.MergeTelling(layers, func(i int, name, now string) {
		what := "a layer takes away a link"
		if now != "" {
			what = "a layer replaces a link by " + now
		}
		p.img.Log().Warn(what+": programs may not start any more", "layer", i+1, "link", "/"+name)
	})
	if err != nil {
		return nil, fmt.Errorf("merge layers: %w", err)
	}
	return root, nil
}

// budget adds up what layers cost.
type budget struct {
	mu       sync.Mutex
	limits   layer.Limits
	entries  int
	metadata int64
}

func (b *budget) spend(l *layer.Layer) error {
	entries, metadata := l.Cost()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries += entries
	b.metadata += metadata
	if b.entries > b.limits.Entries || b.metadata > b.limits.Metadata {
		return fmt.Errorf("%w: all layers together have more than %d entries or %d bytes of metadata",
			layer.ErrLimit, b.limits.Entries, b.limits.Metadata)
	}
	return nil
}

func (p *puller) load(l source.Layer) *layer.Layer {
	if p.options.Cache == nil || p.stale[l.DiffID] && !p.fresh[l.DiffID] {
		return nil
	}
	return load(p.options.Cache, l)
}

// load returns what is known of a layer.
func load(cache LayerCache, l source.Layer) *layer.Layer {
	known, err := cache.Load(l.DiffID.String())
	if err != nil {
		return nil
	}
	return known
}

// fetch fills in the layers with the given indices.
func (p *puller) fetch(ctx context.Context, indices []int, layers []*layer.Layer, budget *budget) error {
	survey, err := p.survey(ctx, indices)
	if err != nil {
		return err
	}
	p.reportReused(survey, layers)
	bar := newBar(p.options.Progress, p.img, indices, survey)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.parallel())
	for _, i := range indices {
		p.fresh[p.img.Layers[i].DiffID] = true
		group.Go(func() error {
			err := p.img.Retry(ctx, func() (err error) {
				layers[i], err = p.layer(ctx, i, survey, bar)
				return err
			})
			if err != nil {
				return err
			}
			return budget.spend(layers[i])
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	bar.finish()
	return nil
}

func (p *puller) parallel() int {
	if p.options.Parallel > 0 {
		return p.options.Parallel
	}
	return DefaultParallel
}

// layer fetches one layer, in part if that is possible and worth it.
func (p *puller) layer(ctx context.Context, i int, survey *Survey, bar *bar) (*layer.Layer, error) {
	if part := survey.take(i); part != nil {
		l, err := p.partial(ctx, i, part, bar)
		var stored storeError
		if err == nil || ctx.Err() != nil || errors.As(err, &stored) {
			return l, err
		}
		// Whatever is wrong with the parts, the whole may be right; if not,
		// what is said of it is said of what the manifest names.
		log := p.img.Log().Debug
		if errors.Is(err, errTable) {
			log = p.img.Log().Warn
		}
		log("the layer is read as a whole", "layer", i+1, "after", err)
	}
	return p.whole(ctx, i, bar)
}

// whole fetches and imports a whole layer.
func (p *puller) whole(ctx context.Context, i int, bar *bar) (*layer.Layer, error) {
	r, err := p.img.OpenLayer(ctx, i)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	l, err := layer.Import(ctx, bar.reader(i, r), p.objects, p.options.Limits)
	if err != nil {
		return nil, p.explain(i, r, err)
	}
	if err := p.save(i, p.img.Layers[i].DiffID.String(), l); err != nil {
		return nil, err
	}
	r.Done()
	return l, nil
}

func (p *puller) save(i int, id string, l *layer.Layer) error {
	if p.options.Cache == nil {
		return nil
	}
	p.saving.Lock()
	defer p.saving.Unlock()
	if err := p.options.Cache.Save(id, l); err != nil {
		return fmt.Errorf("save record of layer %d: %w", i+1, err)
	}
	return nil
}

// rereadMax bounds how many bytes are read to find out why a layer makes no
// sense.
const rereadMax = 64 << 20

// explain returns what is behind an error of Import. Where a layer makes no
// sense, it may not be the layer that the manifest names.
func (p *puller) explain(i int, r *source.LayerReader, err error) error {
	if errors.Is(err, layer.ErrLayer) && r.Err() == nil {
		_, _ = io.CopyN(io.Discard, r, rereadMax)
	}
	if cause := r.Err(); cause != nil {
		return cause
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("import layer %d of %d (%s): %w", i+1, len(p.img.Layers), p.img.Layers[i].Digest, err)
}

// missing returns the contents needed that the store lacks, which can only be
// those of layers that were reused.
func (p *puller) missing(root *tree.Inode) (map[fsverity.Digest]bool, error) {
	if p.stats().Reused == 0 {
		return nil, nil
	}
	visit := p.options.Needed
	if visit == nil {
		visit = everything
	}
	missing := make(map[fsverity.Digest]bool)
	err := visit(root, func(d fsverity.Digest) {
		if !p.objects.Has(d) {
			missing[d] = true
		}
	})
	return missing, err
}

func everything(root *tree.Inode, visit func(fsverity.Digest)) error {
	for _, n := range root.Walk() {
		if n.HasObject() {
			visit(n.Digest)
		}
	}
	return nil
}

// forget makes the layers stale that have any of the missing contents.
func (p *puller) forget(missing map[fsverity.Digest]bool) error {
	for _, l := range p.img.Layers {
		if p.fresh[l.DiffID] || p.stale[l.DiffID] {
			continue
		}
		known := p.load(l)
		if known == nil {
			p.stale[l.DiffID] = true
			continue
		}
		for d := range known.Objects() {
			if missing[d] {
				p.stale[l.DiffID] = true
				break
			}
		}
	}
	if len(p.stale) == 0 {
		return errors.New("objects are missing that no reused layer has")
	}
	return nil
}
