package pull

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// survey returns what is known of the layers that are to be fetched: what the
// caller has found out, or what can be found out now.
func (p *puller) survey(ctx context.Context, indices []int) (*Survey, error) {
	if s := p.options.Survey; s != nil {
		p.options.Survey = nil
		return s, nil
	}
	chunked := func(i int) bool { return p.img.Layers[i].TOC != nil }
	if p.options.Known == nil || p.options.Open == nil || !slices.ContainsFunc(indices, chunked) {
		return nil, nil
	}
	known, err := p.options.Known(ctx)
	if err != nil {
		return nil, err
	}
	return Look(ctx, p.img, p.notStale(), known, p.options.Limits)
}

// notStale is the cache without the records that are not to be used.
func (p *puller) notStale() LayerCache { return staleCache{p} }

type staleCache struct{ p *puller }

func (c staleCache) Load(id string) (*layer.Layer, error) {
	for _, l := range c.p.img.Layers {
		if id == l.DiffID.String() {
			if c.p.options.Cache == nil || c.p.stale[l.DiffID] && !c.p.fresh[l.DiffID] {
				return nil, errors.New("stale")
			}
		}
	}
	return c.p.options.Cache.Load(id)
}

func (c staleCache) Save(string, *layer.Layer) error { return errors.ErrUnsupported }

// reportReused adds up what is here already, and tells it.
func (p *puller) reportReused(survey *Survey, layers []*layer.Layer) {
	var reused, all int64
	files := 0
	for i := range p.img.Layers {
		switch part := survey.part(i); {
		case part != nil:
			files += part.Reused
			reused += part.ReusedBytes
			all += part.ReusedBytes
			for _, m := range part.Missing {
				all += m.Size
			}
		case layers[i] != nil:
			for _, size := range layers[i].Contents() {
				files++
				reused += size
				all += size
			}
		default:
			all += max(0, p.img.Layers[i].Size)
		}
	}
	p.counting.Lock()
	p.counted.FilesReused, p.counted.BytesReused = files, reused
	p.counting.Unlock()
	if p.options.Reused != nil {
		p.options.Reused(reused, all)
	}
}

var errNotWorthwhile = errors.New("most of it is missing")

// storeError is an error of the object store, which another way to fetch would
// meet as well.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// errTable says that a table of contents describes another layer than the one
// that the image names.
var errTable = errors.New("its table of contents does not match its tar stream")

// partial fetches what is missing of a layer, and puts its tar stream together
// again: that has the DiffID, or the layer is not believed.
func (p *puller) partial(ctx context.Context, i int, part *layer.Partial, bar *bar) (*layer.Layer, error) {
	l := p.img.Layers[i]
	if !worthwhile(part, l) {
		return nil, errNotWorthwhile
	}
	pieces, err := piecesOf(part, l)
	if err != nil {
		return nil, err
	}
	ranges := make([]source.Range, len(pieces))
	for k, piece := range pieces {
		ranges[k] = piece.Range
	}
	frames, err := source.NewFrames()
	if err != nil {
		return nil, err
	}
	defer frames.Close()
	done := int64(0)
	stream := l.DiffID.Verifier()
	var made *layer.Layer
	between := map[int][]byte{} // compressed, by gap
	err = p.img.ReadRanges(ctx, i, ranges, func(k int, r io.Reader) (err error) {
		piece := pieces[k]
		defer func() { done += piece.Length }()
		if piece.gap >= 0 {
			between[piece.gap], err = io.ReadAll(r) // of that length: ReadRanges
			return err
		}
		z, err := frames.Of(r)
		if err != nil {
			return err
		}
		m := piece.missing
		if m == nil {
			made, err = part.Import(ctx, z, p.options.Open, stream, p.options.Limits)
			return err
		}
		report := func(read int64) { bar.set(i, done+m.Length*read/max(1, m.Size)) }
		if err := p.content(ctx, m, z, report); err != nil {
			return fmt.Errorf("content %x of layer %d: %w", m.Sum[:6], i+1, err)
		}
		return nil
	})
	if err == nil && made == nil {
		made, err = part.ImportGaps(ctx, func(k int) (io.Reader, error) {
			if len(between[k]) == 0 {
				return bytes.NewReader(nil), nil
			}
			return frames.Of(bytes.NewReader(between[k]))
		}, p.options.Open, stream, p.options.Limits)
	}
	if err != nil {
		return nil, err
	}
	bar.set(i, fetchSize(part, l))
	if !stream.Verified() {
		return nil, fmt.Errorf("%w (%w: diff ID %s)", errTable, source.ErrDigest, l.DiffID)
	}
	if err := p.save(i, l.DiffID.String(), made); err != nil {
		return nil, storeError{err}
	}
	p.counting.Lock()
	p.counted.Partial++
	p.counting.Unlock()
	return made, nil
}

// piece is what is fetched of a layer: a missing content, what lies between two
// contents, or the tar-split data.
type piece struct {
	source.Range
	missing *layer.Missing
	gap     int // its number; -1: none
}

// maxGaps is how much may lie between the contents of a layer, in bytes of the
// blob: it is kept in memory until all contents are here, and so for each layer
// that is fetched at the same time. 200,000 files have about 26 MB.
const maxGaps = 32 << 20

// piecesOf returns what is to be fetched of a layer, in the order of the blob.
func piecesOf(part *layer.Partial, l source.Layer) ([]piece, error) {
	var pieces []piece
	for _, m := range part.Missing {
		pieces = append(pieces, piece{Range: source.Range{Offset: m.Offset, Length: m.Length}, missing: m, gap: -1})
	}
	if l.TOC.Split.Length > 0 {
		return append(pieces, piece{Range: l.TOC.Split, gap: -1}), nil
	}
	gaps, err := part.Gaps()
	if err != nil {
		return nil, err
	}
	if l.TOC.Frames()-part.Stored() > maxGaps {
		return nil, errNotWorthwhile
	}
	for k, g := range gaps {
		if g.Length > 0 {
			pieces = append(pieces, piece{Range: source.Range{Offset: g.Offset, Length: g.Length}, gap: k})
		}
	}
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.Offset, b.Offset) })
	return pieces, nil
}

// content reads one content and puts it where it belongs.
func (p *puller) content(ctx context.Context, m *layer.Missing, r io.Reader, report func(read int64)) error {
	in := &summed{r: r, sum: sha256.New(), report: report}
	if m.Size <= tree.InlineMax {
		small := make([]byte, m.Size)
		if _, err := io.ReadFull(in, small); err != nil {
			return fmt.Errorf("%w: it is too short (%w)", source.ErrDigest, err)
		}
		m.Inline(string(small))
		return in.check(m)
	}
	d, err := p.objects.Put(ctx, in, m.Size)
	switch {
	case in.err != nil:
		return in.err
	case err != nil && in.ended && in.n < m.Size:
		return fmt.Errorf("%w: it is too short (%w)", source.ErrDigest, err)
	case err != nil:
		return storeError{err}
	}
	m.Object(d)
	return in.check(m)
}

// summed hashes what is read.
type summed struct {
	r      io.Reader
	sum    hash.Hash
	n      int64
	err    error // other than io.EOF
	ended  bool
	report func(read int64)
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	if s.ended = err == io.EOF; err != nil && !s.ended {
		s.err = err
	}
	s.report(s.n)
	return n, err
}

// check compares what has been read with what was wanted: its digest, and that
// nothing follows.
func (s *summed) check(m *layer.Missing) error {
	if n, err := io.Copy(io.Discard, io.LimitReader(s.r, 1)); err != nil {
		return err
	} else if n > 0 {
		return fmt.Errorf("%w: it is longer than %d bytes", source.ErrDigest, m.Size)
	}
	if have := [sha256.Size]byte(s.sum.Sum(nil)); have != m.Sum {
		return fmt.Errorf("%w: it is %x", source.ErrDigest, have)
	}
	return nil
}
