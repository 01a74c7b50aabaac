package deploy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/pull"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// container is a container image.
type container struct {
	*source.Image
	// survey is what the tables of contents of its layers say, once an
	// estimate has read them.
	survey *pull.Survey
}

func (o *container) about() deployment.Record {
	r := deployment.Record{
		ManifestDigest:   o.ManifestDigest.String(),
		Reference:        o.Reference,
		InsecureRegistry: o.InsecureRegistry,
		Version:          o.Version,
		Architecture:     o.Architecture,
		Created:          o.Created.Truncate(time.Second), // until it is published
	}
	for _, l := range o.Layers {
		r.Layers = append(r.Layers, l.DiffID.String())
	}
	return r
}

// expansion is how much larger, at most, a layer is expected to be than its
// blob: root file systems shrink to 40 to 55 percent, and 2.5 leaves room for
// the rounding of small files to blocks.
const expansion = 2.5

// estimate adds up what is missing. Of a layer with a table of contents it is
// known exactly; of another one, files that are here already are not known to
// be, so this is more than will be needed. What is kept of the blobs during
// the transfer comes on top.
func (o *container) estimate(ctx context.Context, s *store.Store) (n need, err error) {
	o.survey = nil
	chunked := func(i int) bool { return o.Layers[i].TOC != nil }
	if s != nil && slices.ContainsFunc(o.unknown(s), chunked) {
		known, err := s.Contents(ctx)
		if err != nil {
			return n, err
		}
		if o.survey, err = pull.Look(ctx, o.Image, s, known, layer.Limits{}); err != nil {
			return n, err
		}
	}
	for _, i := range o.unknown(s) {
		l := o.Layers[i]
		exact := o.survey.Missing(i, func(size int64) {
			if size > tree.InlineMax {
				n.store += onDisk(size)
			}
		})
		if !exact {
			factor := expansion
			if strings.HasSuffix(l.MediaType, ".tar") {
				factor = 1
			}
			n.store += int64(float64(max(0, l.Size)) * factor)
		}
	}
	n.store += o.spooled(s)
	if n.files = o.bootFiles(s); s != nil {
		for _, f := range n.files {
			n.boot += f.Size
		}
	}
	return n, nil
}

// bootFiles returns what the image boots with, if its tables of contents and
// what the store knows of its other layers tell it.
func (o *container) bootFiles(s *store.Store) (files []deployment.File) {
	if s == nil || o.survey == nil {
		return nil
	}
	layers := make([]*layer.Layer, len(o.Layers))
	for i, l := range o.Layers {
		if layers[i] = o.survey.Layer(i); layers[i] != nil {
			continue
		}
		var err error
		if layers[i], err = s.Load(l.DiffID.String()); err != nil {
			return nil
		}
	}
	root, err := layer.Merge(layers)
	if err != nil {
		return nil // which is said when it is fetched
	}
	kernel, err := boot.Find(root, contentIn(s))
	if err != nil {
		return nil
	}
	for _, f := range kernel.Files {
		file := deployment.File{Kind: f.Kind, Size: f.Node.Size}
		if f.Node.HasObject() && f.Node.Digest != (fsverity.Digest{}) {
			file.Digest = f.Node.Digest.String()
			file.Path = boot.FilePath(f.Kind, file.Digest)
		}
		files = append(files, file)
	}
	return files
}

// spooled returns how many bytes of blobs are kept at most at once.
func (o *container) spooled(s *store.Store) (sum int64) {
	var sizes []int64
	for _, i := range o.unknown(s) {
		if o.Image.Kept(i) && o.survey.ToFetch(o.Image, i) >= o.Layers[i].Size {
			sizes = append(sizes, o.Layers[i].Size)
		}
	}
	slices.SortFunc(sizes, func(a, b int64) int { return cmp.Compare(b, a) })
	for _, size := range sizes[:min(len(sizes), pull.DefaultParallel)] {
		sum += size
	}
	return sum
}

// unknown returns the indices of the layers that a store knows nothing of.
func (o *container) unknown(s *store.Store) (layers []int) {
	for i, l := range o.Layers {
		if s != nil && s.Knows(l.DiffID.String()) {
			continue
		}
		layers = append(layers, i)
	}
	return layers
}

func (o *container) toFetch(s *store.Store) (known int, size int64) {
	unknown := o.unknown(s)
	for _, i := range unknown {
		size += o.survey.ToFetch(o.Image, i)
	}
	return len(o.Layers) - len(unknown), size
}

func (o *container) fetch(ctx context.Context, n *Node) (*contents, Fetched, error) {
	known, size := o.toFetch(n.Store)
	if known < len(o.Layers) {
		n.Progress.Phase(fmt.Sprintf("fetch %d of %d layers", len(o.Layers)-known, len(o.Layers)), size)
	} else {
		n.Progress.Phase(fmt.Sprintf("all %d layers are known: fetch only what is missing of them", known), 0)
	}
	// A layer that is known is fetched again only if something is missing that
	// will be needed: what is in /boot beside the kernel, or is replaced by
	// another layer, was dropped when the layer was new.
	options := pull.Options{
		Cache:    n.Store,
		Known:    func(ctx context.Context) (pull.Known, error) { return n.Store.Contents(ctx) },
		Open:     n.Store.OpenObject,
		Survey:   o.survey,
		Needed:   func(root *tree.Inode, visit func(fsverity.Digest)) error { return visitNeeded(n.Store, root, visit) },
		Progress: n.Progress.Set,
		Reused:   n.Progress.Reused,
	}
	o.survey = nil
	root, stats, err := pull.Tree(ctx, o.Image, n.Store, options)
	f := Fetched{
		Bytes:         stats.Bytes,
		Requests:      stats.Requests,
		LayersFetched: stats.Fetched,
		LayersPartial: stats.Partial,
		LayersReused:  stats.Reused,
		FilesReused:   stats.FilesReused,
		BytesReused:   stats.BytesReused,
	}
	if err != nil {
		if !o.Image.Remote() { // reading it again costs nothing
			err = useless(err)
		}
		return nil, f, err
	}
	c, err := n.take(ctx, root)
	return c, f, err
}

// visitNeeded calls visit for the objects that a deployment of the tree needs:
// those of the normalised tree and of what it boots with.
func visitNeeded(s *store.Store, root *tree.Inode, visit func(fsverity.Digest)) error {
	kernel, err := boot.Find(root, contentIn(s))
	if err != nil {
		return err
	}
	for _, f := range kernel.Files {
		if f.Node.HasObject() {
			visit(f.Node.Digest)
		}
	}
	for d := range objectsOf(root, nil) {
		visit(d)
	}
	return nil
}

func (o *container) check(context.Context) (store.Live, error) { return store.Live{}, errElsewhere }

// digest fetches all layers into nothing.
func (o *container) digest(ctx context.Context, report func(done, total int64)) (d fsverity.Digest, err error) {
	root, _, err := pull.Tree(ctx, o.Image, layer.Discard, pull.Options{Progress: report})
	if err != nil {
		return d, err
	}
	return digestOf(root)
}
