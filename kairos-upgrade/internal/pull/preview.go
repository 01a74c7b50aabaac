package pull

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Preview is the tree of an image of which as little as possible has been
// fetched. Contents that are not here are named by their plain SHA-256: as the
// digest of an object, or as the content of a small file; see SmallSum.
type Preview struct {
	Root *tree.Inode

	img    *source.Image
	places map[string]place
	reads  int
}

// maxReads is how many contents are fetched one by one: an image may name any
// number of small files.
const maxReads = 1000

// place is where a content is.
type place struct {
	layer int
	*layer.Missing
}

// SmallSum is the content, in a Preview, of a small file whose content is not
// here. It is longer than the content of any small file.
func SmallSum(sum [sha256.Size]byte) string { return fmt.Sprintf("sha256:%x", sum) }

// LookInto makes a Preview: of layers that the cache knows, which may be
// nil, and of the tables of contents of the others. Layers that have none are read
// whole into objects.
func LookInto(ctx context.Context, img *source.Image, cache LayerCache, known Known, objects layer.Objects, report Progress) (*Preview, error) {
	survey, err := Look(ctx, img, cache, known, layer.Limits{})
	if err != nil {
		return nil, err
	}
	p := &Preview{img: img, places: map[string]place{}}
	for i, part := range survey.parts {
		for _, m := range part.Missing {
			key := SmallSum(m.Sum)
			if m.Size <= tree.InlineMax {
				m.Inline(key)
			} else {
				m.Object(fsverity.Digest(m.Sum))
				key = string(m.Sum[:])
			}
			p.places[key] = place{i, m}
		}
	}
	p.Root, _, err = Tree(ctx, img, objects, Options{
		Cache:    surveyed{img, survey, cache},
		Needed:   func(*tree.Inode, func(fsverity.Digest)) error { return nil },
		Progress: report,
	})
	return p, err
}

// surveyed knows the layers of a survey, and those of a cache. It keeps nothing.
type surveyed struct {
	img    *source.Image
	survey *Survey
	cache  LayerCache
}

func (s surveyed) Load(id string) (*layer.Layer, error) {
	for i, l := range s.img.Layers {
		if l.DiffID.String() != id {
			continue
		}
		if known := s.survey.Layer(i); known != nil {
			return known, nil
		}
	}
	if s.cache == nil {
		return nil, errors.ErrUnsupported
	}
	return s.cache.Load(id)
}

func (surveyed) Save(string, *layer.Layer) error { return nil }

// ErrNotHere says that a content is not among those that a table of contents
// describes.
var ErrNotHere = errors.New("its content is not here")

// Read fetches the content of one file, of at most limit bytes. Errors:
// ErrNotHere, bounded.ErrTooLarge, source.ErrDigest, those of the network.
func (p *Preview) Read(ctx context.Context, n *tree.Inode, limit int64) (content []byte, err error) {
	key := n.Content
	if n.HasObject() {
		key = string(n.Digest[:])
	}
	at, ok := p.places[key]
	switch {
	case !ok:
		return nil, ErrNotHere
	case p.reads == maxReads:
		return nil, fmt.Errorf("more than %d files would have to be fetched one by one", maxReads)
	case at.Size > limit:
		return nil, fmt.Errorf("%w %d bytes", bounded.ErrTooLarge, limit)
	}
	p.reads++
	frames, err := source.NewFrames()
	if err != nil {
		return nil, err
	}
	defer frames.Close()
	err = p.img.ReadRanges(ctx, at.layer, []source.Range{{Offset: at.Offset, Length: at.Length}}, func(_ int, r io.Reader) error {
		z, err := frames.Of(r)
		if err != nil {
			return err
		}
		content, err = bounded.Read(z, at.Size)
		return err
	})
	if err == nil && sha256.Sum256(content) != at.Sum {
		err = source.ErrDigest
	}
	return content, err
}

// Open is Read for those who want a reader.
func (p *Preview) Open(ctx context.Context, n *tree.Inode, limit int64) (io.ReadCloser, error) {
	if !n.HasObject() && int64(len(n.Content)) == n.Size {
		return io.NopCloser(strings.NewReader(n.Content)), nil
	}
	content, err := p.Read(ctx, n, limit)
	return io.NopCloser(bytes.NewReader(content)), err
}
