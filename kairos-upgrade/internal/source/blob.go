package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/kairos-io/toolkit/lib/exit"
	digest "github.com/opencontainers/go-digest"
)

// ErrDigest says that bytes are not what their digest names.
var ErrDigest = errors.New("content does not match its digest")

// ErrCompressed says that a blob is no compressed stream that is read here.
var ErrCompressed = errors.New("decompress")

// OpenLayer returns the uncompressed tar stream of layer i. The caller closes
// it.
func (img *Image) OpenLayer(ctx context.Context, i int) (*LayerReader, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, err := img.openLayer(ctx, i)
	if err != nil {
		cancel()
		return nil, img.layerError(i, explain(err, ""))
	}
	r.cancel = cancel
	return r, nil
}

func (img *Image) openLayer(ctx context.Context, i int) (*LayerReader, error) {
	l := &img.Layers[i]
	body, err := img.openBody(ctx, i)
	if err != nil {
		return nil, err
	}
	b := &blob{ctx: ctx, body: body, want: l.Size, digest: l.Digest, sum: l.Digest.Verifier()}
	head := bufio.NewReaderSize(b, 64<<10)
	stream, err := decompress(head)
	if err != nil {
		err = b.explain(err)
		body.Close()
		return nil, err
	}
	return &LayerReader{
		img: img, index: i, blob: b, rest: head,
		stream: stream, ahead: newReadAhead(stream), sum: l.DiffID.Verifier(),
	}, nil
}

func (img *Image) layerError(i int, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("read layer %d of %d (%s): %w", i+1, len(img.Layers), short(img.Layers[i].Digest), err)
}

// short is enough of a digest to recognise it.
func short(d digest.Digest) string {
	if s := d.String(); len(s) > 19 {
		return s[:19]
	}
	return d.String()
}

// blob counts and checks the bytes of a blob as they are fetched. It never
// reads more than the manifest has promised.
type blob struct {
	ctx    context.Context
	body   *body
	digest digest.Digest
	sum    digest.Verifier
	want   int64 // -1: unknown
	have   atomic.Int64
	err    error
}

func (b *blob) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.err = b.ctx.Err(); b.err != nil {
		return 0, b.err
	}
	n, err := b.body.Read(p)
	have := b.have.Add(int64(n))
	b.sum.Write(p[:n])
	switch {
	case b.want >= 0 && have > b.want:
		b.err = b.body.wrong(fmt.Errorf("%w: larger than the %d bytes in the manifest", ErrDigest, b.want))
		return 0, b.err
	case err == io.EOF && b.want >= 0 && have < b.want:
		b.err = b.body.again(fmt.Errorf("only %d of %d bytes arrived: %w", have, b.want, io.ErrUnexpectedEOF))
	case err == io.EOF && !b.sum.Verified():
		b.err = b.body.wrong(fmt.Errorf("%w %s", ErrDigest, b.digest))
	default:
		b.err = err
	}
	return n, b.err
}

// explain returns what is behind an error of the decompressor: the blob's own
// error if it has one.
func (b *blob) explain(err error) error {
	switch {
	case b.err != nil && b.err != io.EOF:
		return b.err
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		// Not wrapped: the blob is whole, so trying again would not help.
		return b.body.wrong(fmt.Errorf("%w: the compressed stream ends in the middle", ErrCompressed))
	}
	return b.body.wrong(fmt.Errorf("%w: %w", ErrCompressed, err))
}

// LayerReader is the uncompressed tar stream of a layer. Read returns io.EOF
// only if the blob as it was fetched, its length and the stream are what
// manifest and configuration say; any other end is an error. What was read
// before must not be trusted until then.
type LayerReader struct {
	img    *Image
	index  int
	blob   *blob
	rest   io.Reader // of the blob, behind what the decompressor took
	stream io.ReadCloser
	ahead  *readAhead
	sum    digest.Verifier
	cancel context.CancelFunc
	closed bool
	err    error
}

// Fetched returns how many bytes of the blob have been read so far, those
// included that an interrupted transfer had left.
func (r *LayerReader) Fetched() int64 { return r.blob.have.Load() }

// Resumed returns how many bytes of the blob an interrupted transfer had left.
func (r *LayerReader) Resumed() int64 { return r.blob.body.kept }

// Done says that the layer has been read and kept: what was kept of its blob is
// not needed any more.
func (r *LayerReader) Done() { r.blob.body.discard() }

// Err returns the error that ended the stream, nil if it was io.EOF or if
// nothing ended it yet.
func (r *LayerReader) Err() error {
	if r.err == io.EOF {
		return nil
	}
	return r.err
}

func (r *LayerReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.ahead.Read(p)
	r.sum.Write(p[:n])
	if err == nil {
		return n, nil
	}
	// The goroutine has ended: blob and rest are ours.
	if err == io.EOF {
		err = r.finish()
	} else {
		err = r.blob.explain(err)
	}
	if err != io.EOF {
		err = r.img.layerError(r.index, err)
	}
	r.err = err
	return n, err
}

// finish checks the digests at the end of the stream. It returns io.EOF if
// they are right.
func (r *LayerReader) finish() error {
	if _, err := io.Copy(io.Discard, r.rest); err != nil {
		return err
	}
	if !r.sum.Verified() {
		return exit.Hint(fmt.Errorf("%w: diff ID %s", ErrDigest, r.img.Layers[r.index].DiffID),
			"the image is inconsistent: build and push it again")
	}
	return io.EOF
}

// Close ends the transfer; a second Close does nothing. Errors of the content
// are those of Read.
func (r *LayerReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.cancel()
	r.ahead.stop()
	r.stream.Close()
	return r.blob.body.Close()
}
