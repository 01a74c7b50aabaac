package pull

import (
	"context"
	"io"
	"sync"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Known are the contents that are here already.
type Known interface {
	layer.Known
	// Empty reports whether nothing is here.
	Empty() bool
}

// Survey says what of an image's layers is missing, as far as their tables of
// contents tell: nothing but these has been read.
type Survey struct {
	mu    sync.Mutex
	parts map[int]*layer.Partial // by layer
}

// Look reads the tables of contents of the layers that the cache does not know
// and that have one. With nothing known there is no use in that: it would only
// be fetched beside everything else.
//
// A table that can't be had or used is no error: the layer will be read whole.
// Layers that together go beyond the limits are.
func Look(ctx context.Context, img *source.Image, cache LayerCache, known Known, limits layer.Limits) (*Survey, error) {
	s := &Survey{parts: make(map[int]*layer.Partial)}
	if known.Empty() {
		return s, nil
	}
	seen := make(map[digest.Digest]bool)
	budget := &budget{limits: limits.WithDefaults()}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(DefaultParallel)
	for i, l := range img.Layers {
		if l.TOC == nil || seen[l.DiffID] || cache != nil && load(cache, l) != nil {
			continue
		}
		seen[l.DiffID] = true
		group.Go(func() error {
			part, err := table(ctx, img, i, known, limits)
			if err == nil {
				s.mu.Lock()
				s.parts[i] = part
				s.mu.Unlock()
				return budget.spend(part.Layer)
			}
			img.Log().Debug("no table of contents", "layer", i+1, "after", err)
			return ctx.Err()
		})
	}
	return s, group.Wait()
}

func table(ctx context.Context, img *source.Image, i int, known Known, limits layer.Limits) (part *layer.Partial, err error) {
	err = img.ReadTOC(ctx, i, func(r io.Reader) (err error) {
		part, err = layer.FromTOC(ctx, r, known, img.Layers[i].TOC.Frames(), img.Layers[i].TOC.Split.Length == 0, limits)
		return err
	})
	return part, err
}

// Missing calls visit with the sizes in bytes of the contents of a layer that
// are missing, and reports whether they are known.
func (s *Survey) Missing(i int, visit func(size int64)) bool {
	part := s.part(i)
	if part == nil {
		return false
	}
	for _, m := range part.Missing {
		visit(m.Size)
	}
	return true
}

// ToFetch returns how many bytes of a layer are to be fetched.
func (s *Survey) ToFetch(img *source.Image, i int) int64 {
	l := img.Layers[i]
	if part := s.part(i); part != nil && worthwhile(part, l) {
		return fetchSize(part, l)
	}
	return max(0, l.Size)
}

// Layer returns a copy of what the table of contents says of a layer, nil where
// it is not known.
func (s *Survey) Layer(i int) *layer.Layer {
	if part := s.part(i); part != nil {
		return part.Layer.Clone()
	}
	return nil
}

func (s *Survey) part(i int) *layer.Partial {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts[i]
}

// take returns what is known of a layer to the first one who asks: to put
// contents into it uses it up.
func (s *Survey) take(i int) *layer.Partial {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	part := s.parts[i]
	delete(s.parts, i)
	return part
}

// fetchSize returns how many bytes of a layer with a table of contents are
// fetched if it is fetched in part.
func fetchSize(part *layer.Partial, l source.Layer) int64 {
	sum := l.TOC.Split.Length
	if sum == 0 {
		sum = l.TOC.Frames() - part.Stored() // what lies between contents
	}
	for _, m := range part.Missing {
		sum += m.Length
	}
	return sum
}

// worthwhile reports whether the missing parts are so much less than the whole
// blob that they are fetched alone. The whole is one request, and what is here
// already need not be read.
func worthwhile(part *layer.Partial, l source.Layer) bool {
	return fetchSize(part, l) < l.Size-l.Size/10
}
