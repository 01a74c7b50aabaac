package layer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

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
	s := &splitStream{in: in, json: json.NewDecoder(in), layer: p.Layer, open: open}
	s.json.DisallowUnknownFields()
	defer s.close()
	l, err := Import(ctx, io.TeeReader(s, sum), s, limits)
	if s.err != nil {
		return nil, s.err // not that of a tar stream which broke off
	}
	return l, err
}

// splitStream is the tar stream, and knows which of its contents are objects.
type splitStream struct {
	in    *tocReader
	json  *json.Decoder
	layer *Layer
	open  func(fsverity.Digest) (*os.File, error)

	n    int64     // bytes of the stream so far
	body io.Reader // what comes next
	left int64     // bytes of it
	file *os.File  // behind body
	err  error

	// The object that was begun last: where in the stream, and its length.
	object   fsverity.Digest
	at, size int64
}

func (s *splitStream) Read(p []byte) (int, error) {
	for s.err == nil && s.left == 0 {
		s.close()
		if err := s.next(); err == io.EOF {
			return 0, err
		} else if err != nil {
			s.err = err
		}
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.body.Read(p[:min(int64(len(p)), s.left)])
	s.n += int64(n)
	s.left -= int64(n)
	switch {
	case err == io.EOF && s.left > 0:
		s.err = fmt.Errorf("%w: a content is too short", ErrTOC)
	case err != nil && err != io.EOF:
		s.err = err
	}
	return n, s.err
}

// next goes on to the next entry.
func (s *splitStream) next() error {
	var e splitEntry
	switch err := s.json.Decode(&e); {
	case s.in.err != nil:
		return fmt.Errorf("read tar-split data: %w", s.in.err)
	case err == io.EOF:
		return err
	case err != nil:
		return tocError(err)
	}
	s.in.limit = s.json.InputOffset() + splitEntryMax
	switch {
	case e.Type == splitSegment:
		s.body, s.left = bytes.NewReader(e.Payload), int64(len(e.Payload))
		return nil
	case e.Type == splitFile && e.Size == 0:
		return nil
	case e.Type == splitFile && e.Size > 0:
		return s.content(&e)
	}
	return fmt.Errorf("%w: an entry of type %d and %d bytes", ErrTOC, e.Type, e.Size)
}

// content goes on to the content of a file. Its name leads to it, and no
// further: Put does not ask for it.
func (s *splitStream) content(e *splitEntry) error {
	name := e.Name
	if len(e.NameRaw) > 0 {
		name = string(e.NameRaw)
	}
	path, err := splitPath(name)
	if err != nil {
		return err
	}
	n := s.layer.root
	for _, part := range path {
		if n = n.Lookup(part); n == nil {
			break
		}
	}
	if n == nil || !n.IsRegular() || n.Size != e.Size {
		return fmt.Errorf("%w: no file %q with %d bytes", ErrTOC, clip(name), e.Size)
	}
	s.left = n.Size
	if !n.HasObject() {
		s.body = strings.NewReader(n.Content)
		return nil
	}
	if s.file, err = s.open(n.Digest); err != nil {
		return err
	}
	s.body, s.object, s.at, s.size = s.file, n.Digest, s.n, n.Size
	return nil
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
