package layer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// splitEntryMax is how long an entry of tar-split data may be as JSON, in
// bytes: what writes it cuts padding into pieces of 1 MiB, and a PAX header has
// as much at most.
const splitEntryMax = 4 << 20

// splitEntry is an entry of tar-split data (github.com/vbatts/tar-split,
// tar/storage): bytes of the tar stream, or a file whose content they lack.
type splitEntry struct {
	Type     int    `json:"type"`
	Name     string `json:"name"`
	NameRaw  []byte `json:"name_raw"`
	Size     int64  `json:"size"`
	Payload  []byte `json:"payload"` // of a file: its CRC-64
	Position int    `json:"position"`
}

const (
	splitFile    = 1
	splitSegment = 2
)

// Import does what the function Import does, of a tar stream that nobody has
// sent: it is put together from the layer's tar-split data, which r has as JSON,
// and from the contents of the layer that its table of contents has described,
// all of which are objects now, opened by open. The stream is written to sum.
//
// Where the stream has the layer's DiffID, the layer returned is the one that
// the whole blob would have given: of the table of contents nothing is believed.
//
// Errors: those of Import, of r and open, and ErrTOC where the parts don't fit.
func (p *Partial) Import(ctx context.Context, r io.Reader, open func(fsverity.Digest) (*os.File, error), sum io.Writer, limits Limits) (*Layer, error) {
	in := &tocReader{r: r, limit: splitEntryMax}
	data := &splitData{in: in, json: json.NewDecoder(in), layer: p.Layer}
	data.json.DisallowUnknownFields()
	return importParts(ctx, data, open, sum, limits)
}

// ImportGaps is Import for a layer without tar-split data: gap returns the bytes of
// the tar stream in each of Gaps, which must have been called, one after the other.
func (p *Partial) ImportGaps(ctx context.Context, gap func(k int) (io.Reader, error), open func(fsverity.Digest) (*os.File, error), sum io.Writer, limits Limits) (*Layer, error) {
	return importParts(ctx, &gaps{spans: p.spans, gap: gap}, open, sum, limits)
}

func importParts(ctx context.Context, parts parts, open func(fsverity.Digest) (*os.File, error), sum io.Writer, limits Limits) (*Layer, error) {
	s := &splitStream{parts: parts, open: open}
	defer s.close()
	l, err := Import(ctx, io.TeeReader(s, sum), s, limits)
	if s.err != nil {
		return nil, s.err // not that of a tar stream which broke off
	}
	return l, err
}

// parts are what a tar stream is put together from.
type parts interface {
	// next returns the next part, bytes to their end or the content of a file. Error:
	// io.EOF behind the last.
	next() (bytes io.Reader, content *tree.Inode, err error)
}

// splitStream is the tar stream, and knows which of its contents are objects.
type splitStream struct {
	parts parts
	open  func(fsverity.Digest) (*os.File, error)

	n    int64     // bytes of the stream so far
	body io.Reader // what comes now
	left int64     // bytes of it; negative: to its end
	file *os.File  // behind body
	err  error

	// The object that was begun last: where in the stream, and its length.
	object   fsverity.Digest
	at, size int64
}

func (s *splitStream) Read(p []byte) (int, error) {
	for s.err == nil {
		if s.left == 0 {
			if err := s.next(); err == io.EOF {
				return 0, err
			} else if err != nil {
				s.err = err
			}
			continue
		}
		if s.left > 0 {
			p = p[:min(int64(len(p)), s.left)]
		}
		n, err := s.body.Read(p)
		s.n += int64(n)
		switch {
		case err != nil && err != io.EOF:
			s.err = err
		case s.left > 0:
			if s.left -= int64(n); err == io.EOF && s.left > 0 {
				s.err = fmt.Errorf("%w: a content is too short", ErrTOC)
			}
		case err == io.EOF:
			s.left = 0
		}
		if n > 0 || len(p) == 0 {
			return n, s.err
		}
	}
	return 0, s.err
}

// next goes on to the next part.
func (s *splitStream) next() error {
	s.close()
	r, n, err := s.parts.next()
	switch {
	case err != nil:
		return err
	case n == nil:
		s.body, s.left = r, -1
		return nil
	case !n.HasObject():
		s.body, s.left = strings.NewReader(n.Content), n.Size
		return nil
	}
	if s.file, err = s.open(n.Digest); err != nil {
		return err
	}
	s.body, s.left = s.file, n.Size
	s.object, s.at, s.size = n.Digest, s.n, n.Size
	return nil
}

// splitData is tar-split data.
type splitData struct {
	in    *tocReader
	json  *json.Decoder
	layer *Layer
}

func (d *splitData) next() (io.Reader, *tree.Inode, error) {
	for {
		var e splitEntry
		switch err := d.json.Decode(&e); {
		case d.in.err != nil:
			return nil, nil, fmt.Errorf("read tar-split data: %w", d.in.err)
		case err == io.EOF:
			return nil, nil, err
		case err != nil:
			return nil, nil, tocError(err)
		}
		d.in.limit = d.json.InputOffset() + splitEntryMax
		switch {
		case e.Type == splitSegment:
			return bytes.NewReader(e.Payload), nil, nil
		case e.Type == splitFile && e.Size == 0:
			continue
		case e.Type == splitFile && e.Size > 0:
			n, err := d.content(&e)
			return nil, n, err
		}
		return nil, nil, fmt.Errorf("%w: an entry of type %d and %d bytes", ErrTOC, e.Type, e.Size)
	}
}

// content returns the file whose content comes next. Its name leads to it, and no
// further: Put does not ask for it.
func (d *splitData) content(e *splitEntry) (*tree.Inode, error) {
	name := e.Name
	if len(e.NameRaw) > 0 {
		name = string(e.NameRaw)
	}
	path, err := splitPath(name)
	if err != nil {
		return nil, err
	}
	n := d.layer.root
	for _, part := range path {
		if n = n.Lookup(part); n == nil {
			break
		}
	}
	if n == nil || !n.IsRegular() || n.Size != e.Size {
		return nil, fmt.Errorf("%w: no file %q with %d bytes", ErrTOC, clip(name), e.Size)
	}
	return n, nil
}

// gaps takes the contents as they lie in the blob, and what is between them.
type gaps struct {
	spans []span
	gap   func(k int) (io.Reader, error)
	k     int // parts so far
}

func (g *gaps) next() (io.Reader, *tree.Inode, error) {
	k := g.k / 2
	g.k++
	switch {
	case k > len(g.spans) || k == len(g.spans) && g.k%2 == 0:
		return nil, nil, io.EOF
	case g.k%2 == 0:
		return nil, g.spans[k].node, nil
	}
	r, err := g.gap(k)
	return r, nil, err
}

func (s *splitStream) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// Put returns the object that the stream has for the content of a file. It is
// that content only where it begins and ends with it.
func (s *splitStream) Put(ctx context.Context, r io.Reader, size int64) (fsverity.Digest, error) {
	at := s.n
	if err := drain(ctx, r); err != nil {
		return fsverity.Digest{}, err
	}
	if s.err == nil && (s.at != at || s.size != size || s.n != at+size) {
		s.err = fmt.Errorf("%w: the content at %d of the tar stream is no object", ErrTOC, at)
	}
	return s.object, s.err
}

// Has is not asked.
func (s *splitStream) Has(fsverity.Digest) bool { return false }
