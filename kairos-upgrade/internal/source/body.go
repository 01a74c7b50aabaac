package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kairos-io/toolkit/lib/exit"
	digest "github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
)

// Spool keeps what has arrived of large blobs, so that a transfer that was
// killed goes on where it was.
type Spool interface {
	// OpenPartial returns the file for a blob, new or with what is kept of it,
	// to be read and appended to.
	OpenPartial(d digest.Digest) (*os.File, error)
	// RemovePartial removes it.
	RemovePartial(d digest.Digest) error
}

// spoolMin is the size in bytes from which a blob is worth a file. A variable
// for tests.
var spoolMin int64 = 8 << 20

// errPartial says that what was kept of a blob was not what it should be. It
// has been removed: another attempt is worth it.
var errPartial = errors.New("the saved part of an interrupted transfer was damaged")

// errMirror says that a mirror failed in the middle, or has other bytes than it
// should. It is not asked any more: another attempt is worth it.
var errMirror = errors.New("from a mirror")

// body is a blob as it arrives: first what was kept of it, then the rest over
// one connection, and when that breaks, over others for what is left.
type body struct {
	ctx   context.Context
	img   *Image
	layer int
	guard *guard // of the first connection
	from  types.ImageSource

	at   int64 // in the blob
	kept int64 // bytes that were here before
	file *os.File
	now  io.ReadCloser
	tail bool // now is a rangeReader
}

// openBody opens the blob of a layer, at the first place that has it in its
// length.
func (img *Image) openBody(ctx context.Context, layer int) (b *body, err error) {
	b = &body{ctx: ctx, img: img, layer: layer}
	guarded, guard := img.guard(ctx)
	b.guard = guard
	l := img.Layers[layer]
	b.openFile()
	if b.kept > 0 {
		b.now = io.NopCloser(io.NewSectionReader(b.file, 0, b.kept))
		return b, nil
	}
	if img.remote {
		img.requests.Add(1)
	}
	for {
		b.from = img.here()
		var size int64
		err = b.guard.open(func() (err error) {
			b.now, size, err = b.from.GetBlob(guarded, l.info, none.NoCache)
			return err
		})
		if err == nil && size >= 0 && l.Size >= 0 && size != l.Size {
			b.now.Close()
			err = fmt.Errorf("%w: the server offers %d bytes, the manifest says %d", ErrDigest, size, l.Size)
		}
		if err == nil {
			return b, nil
		}
		if !img.elsewhere(ctx, b.from, err) {
			b.now = nil
			b.Close()
			if l.elsewhere && (isMissing(err) || errors.Is(err, fs.ErrNotExist)) {
				err = exit.Hint(fmt.Errorf("it is not stored with the image (%s): %w", l.MediaType, err),
					"build the image with all its layers")
			}
			return nil, img.places.explain(err)
		}
	}
}

// Remote reports whether the image comes over a network.
func (img *Image) Remote() bool { return img.remote }

// Kept reports whether the blob of a layer is kept while it is read whole.
func (img *Image) Kept(layer int) bool {
	return img.spool != nil && img.remote && img.Layers[layer].Size >= spoolMin
}

// openFile opens the file that keeps the blob, if it is worth one and the rest
// could be fetched without what is kept. Without one, nothing is lost but time.
func (b *body) openFile() {
	l := b.img.Layers[b.layer]
	if !b.img.Kept(b.layer) || b.img.rangesOf(b.ctx, b.layer) == 0 {
		return
	}
	f, err := b.img.spool.OpenPartial(l.Digest)
	if err != nil {
		b.img.log.Debug("an interrupted transfer cannot be saved", "error", err)
		return
	}
	b.file = f
	info, err := f.Stat()
	if err != nil || info.Size() > l.Size {
		b.discard()
		return
	}
	b.kept = info.Size()
}

func (b *body) Read(p []byte) (int, error) {
	size := b.img.Layers[b.layer].Size
	n, err := b.read(p)
	if b.at >= b.kept {
		b.img.countUnlessRange(n, b.tail)
		b.keep(p[:n])
	}
	b.at += int64(n)
	switch {
	case err == nil:
	case b.at < b.kept && b.at != size: // the file: it is not as long as it was
		return n, fmt.Errorf("%w: %w", errPartial, unexpected(err))
	case b.tail, size < 0, err == io.EOF && b.at >= size:
		return n, err
	case b.kept > 0 && b.at == b.kept && err == io.EOF, Transient(unexpected(err)) && b.img.rangesOf(b.ctx, b.layer) > 0:
		if b.at > b.kept {
			b.img.log.Debug("resuming an interrupted transfer", "layer", b.layer+1, "at", b.at, "after", err)
		}
		b.now.Close()
		b.now = newRangeReader(b.ctx, b.img, b.layer, []Range{{b.at, size - b.at}})
		b.tail = true
		return n, nil
	default:
		return n, b.again(err)
	}
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	if b.tail { // it guards itself, and its patience takes longer
		return b.now.Read(p)
	}
	return b.guard.reader(b.now).Read(p)
}

// countUnlessRange counts what came over the network; a rangeReader counts for
// itself.
func (img *Image) countUnlessRange(n int, counted bool) {
	if !counted {
		img.fetched.Add(int64(n))
	}
}

// keep appends to the file. A full disk is nothing to fail for here.
func (b *body) keep(p []byte) {
	if b.file == nil || len(p) == 0 {
		return
	}
	if _, err := b.file.Write(p); err != nil {
		b.img.log.Debug("an interrupted transfer cannot be saved", "error", err)
		b.discard()
	}
}

// wrong is called with an error that says that the bytes are not those of the
// blob. It returns a transient one where they may be at another attempt: without
// what was kept, or from another place.
func (b *body) wrong(err error) error {
	b.discard()
	if b.kept > 0 {
		return fmt.Errorf("%w: %w", errPartial, err)
	}
	return b.again(err)
}

// again goes on to another place after an error, if there is one.
func (b *body) again(err error) error {
	if b.img.elsewhere(b.ctx, b.from, err) {
		return fmt.Errorf("%w: %w", errMirror, err)
	}
	return err
}

// discard removes the file.
func (b *body) discard() {
	if b.file == nil {
		return
	}
	b.file.Close()
	b.file = nil
	if err := b.img.spool.RemovePartial(b.img.Layers[b.layer].Digest); err != nil {
		b.img.log.Debug("a saved transfer cannot be removed", "error", err)
	}
}

// Close ends the transfer. What has arrived stays, unless it was discarded.
func (b *body) Close() error {
	b.guard.stop()
	var err error
	if b.now != nil {
		err = b.now.Close()
	}
	if b.file != nil {
		b.file.Close()
		b.file = nil
	}
	return err
}
