package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"slices"

	"go.podman.io/image/v5/types"
)

// rangeReader reads ranges of a blob, one after the other, over as many
// connections as it takes: when one breaks, the next asks for what is left.
type rangeReader struct {
	ctx   context.Context
	img   *Image
	layer int
	// left are the ranges to be read, the first one from where it is.
	left     []Range
	conn     *rangeConn // nil: to be made
	from     types.ImageSource
	patience patience
	err      error // that ended it
}

func newRangeReader(ctx context.Context, img *Image, layer int, ranges []Range) *rangeReader {
	return &rangeReader{ctx: ctx, img: img, layer: layer, left: slices.Clone(ranges)}
}

// offset is where in the blob the next byte comes from.
func (r *rangeReader) offset() int64 { return r.left[0].Offset }

// Read reads the current range; io.EOF comes at its end only.
func (r *rangeReader) Read(p []byte) (int, error) {
	now := &r.left[0]
	for r.err == nil && now.Length > 0 {
		n, err := r.attempt(p[:min(int64(len(p)), now.Length)])
		now.Offset += int64(n)
		now.Length -= int64(n)
		if n > 0 {
			r.patience.progress()
			return n, nil
		}
		if err != nil {
			r.lost(unexpected(err))
		}
	}
	if r.err != nil {
		return 0, r.err
	}
	return 0, io.EOF
}

func (r *rangeReader) attempt(p []byte) (int, error) {
	if r.conn == nil {
		r.from = r.img.here()
		conn, err := r.img.openRanges(r.ctx, r.from, r.layer, r.left)
		if err != nil {
			return 0, err
		}
		r.conn = conn
	}
	return r.conn.Read(p)
}

// lost decides whether to go on after an error.
func (r *rangeReader) lost(err error) {
	r.hangUp()
	switch {
	case r.ctx.Err() != nil:
		r.err = r.ctx.Err()
	case r.patience.allows(err):
		r.err = r.patience.pause(r.ctx, r.img.log, err)
	case !errors.Is(err, ErrRanges) && r.img.elsewhere(r.ctx, r.from, err) && r.img.rangesOf(r.ctx, r.layer) > 0:
		r.patience.progress()
	default:
		r.err = err
	}
}

// next goes on to the next range, if there is one, when the current one has
// been read.
func (r *rangeReader) next() error {
	if r.left[0].Length > 0 {
		return errors.New("the previous range was not read to its end")
	}
	r.left = r.left[1:]
	if len(r.left) == 0 || r.conn == nil {
		return nil
	}
	if err := r.conn.next(); err != nil {
		r.lost(err)
	}
	return r.err
}

// explain says which layer an error is about, if it is one of reading.
func (r *rangeReader) explain(err error) error {
	if r.err == nil || errors.Is(r.err, ErrRanges) {
		return err
	}
	return r.img.layerError(r.layer, explain(r.err, ""))
}

func (r *rangeReader) hangUp() {
	if r.conn != nil {
		r.conn.close()
		r.conn = nil
	}
}

// Close ends the transfer.
func (r *rangeReader) Close() error {
	r.hangUp()
	return nil
}

// rangeConn is the answer to one request.
type rangeConn struct {
	ctx   context.Context
	guard *guard
	parts chan io.ReadCloser
	errs  chan error
	part  io.ReadCloser
	body  io.Reader
}

func (img *Image) openRanges(ctx context.Context, from types.ImageSource, layer int, ranges []Range) (*rangeConn, error) {
	c := &rangeConn{}
	c.ctx, c.guard = img.guard(ctx)
	img.requests.Add(1)
	err := c.guard.open(func() (err error) {
		c.parts, c.errs, err = requestRanges(c.ctx, from, img.Layers[layer].info, ranges)
		return err
	})
	if err == nil {
		err = c.next()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	c.body = &counter{r: c.guard.reader(partReader{c}), total: &img.fetched}
	return c, nil
}

func (c *rangeConn) Read(p []byte) (int, error) { return c.body.Read(p) }

// next waits for the next part.
func (c *rangeConn) next() error {
	return c.guard.open(func() error {
		if c.part != nil {
			// To close a part is to read it to its end, which may never come.
			if n, _ := c.part.Read(make([]byte, 1)); n > 0 {
				return fmt.Errorf("%w: a part of the answer is longer than requested", ErrRanges)
			}
			c.part.Close()
			c.part = nil
		}
		parts, errs := c.parts, c.errs
		for parts != nil || errs != nil {
			select {
			case part, ok := <-parts:
				if ok {
					c.part = part
					return nil
				}
				parts = nil
			case err, ok := <-errs:
				if ok {
					return cutBetweenParts(err)
				}
				errs = nil
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
		}
		return fmt.Errorf("%w: the answer has fewer parts than requested", ErrRanges)
	})
}

// cutBetweenParts makes what a multipart reader says of a connection that ended
// in the headers of a part what it is.
func cutBetweenParts(err error) error {
	var header textproto.ProtocolError
	if errors.Is(err, io.EOF) || errors.As(err, &header) {
		return fmt.Errorf("%w (%w)", io.ErrUnexpectedEOF, err)
	}
	return err
}

// close hangs up and waits for the goroutine behind the request.
func (c *rangeConn) close() {
	c.guard.stop()
	if c.part != nil {
		c.part.Close()
	}
	if c.parts != nil {
		abandon(c.parts, c.errs)
	}
}

// partReader reads the current part.
type partReader struct{ conn *rangeConn }

func (r partReader) Read(p []byte) (int, error) { return r.conn.part.Read(p) }

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
