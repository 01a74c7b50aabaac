package layer

import (
	"encoding/json"
	"fmt"
	"io"
)

// Limits in bytes of a table of contents as JSON. An image of 200,000 files
// has about 80 MiB.
const (
	tocMax      = 512 << 20
	tocEntryMax = 1 << 20
)

// readTOC reads a table of contents and calls visit for its entries, one after
// the other: none is kept. Unknown keys are ErrTOC, since they may change what
// the others mean.
func readTOC(r io.Reader, visit func(*tocEntry) error) error {
	in := &tocReader{r: r}
	t := &tocDecoder{in: in, json: json.NewDecoder(in), visit: visit}
	t.json.DisallowUnknownFields()
	in.limit = tocEntryMax
	err := t.table()
	if in.err != nil { // of the source, not of its content
		return fmt.Errorf("read table of contents: %w", in.err)
	}
	return err
}

type tocDecoder struct {
	in    *tocReader
	json  *json.Decoder
	visit func(*tocEntry) error
}

func (t *tocDecoder) table() error {
	if err := t.delim('{'); err != nil {
		return err
	}
	version, entries := 0, false
	for t.json.More() {
		key, err := t.json.Token()
		if err != nil {
			return tocError(err)
		}
		switch key {
		case "version":
			err = t.decode(&version)
		case "tarSplitDigest": // of what it takes to write the tar stream again
			var digest string
			err = t.decode(&digest)
		case "entries":
			if entries {
				return fmt.Errorf("%w: entries twice", ErrTOC)
			}
			entries = true
			err = t.entries()
		default:
			return fmt.Errorf("%w: unknown key %q", ErrTOC, clip(fmt.Sprint(key)))
		}
		if err != nil {
			return err
		}
	}
	if err := t.delim('}'); err != nil {
		return err
	}
	if _, err := t.json.Token(); err != io.EOF {
		return fmt.Errorf("%w: more behind its end", ErrTOC)
	}
	if version != 1 || !entries {
		return fmt.Errorf("%w: version %d", ErrTOC, version)
	}
	return nil
}

func (t *tocDecoder) entries() error {
	switch first, err := t.json.Token(); {
	case err != nil:
		return tocError(err)
	case first == nil: // null, of an empty layer
		return nil
	case first != json.Delim('['):
		return fmt.Errorf("%w: entries are %v", ErrTOC, first)
	}
	for t.json.More() {
		var e tocEntry
		if err := t.decode(&e); err != nil {
			return err
		}
		if err := t.visit(&e); err != nil {
			return err
		}
		t.in.limit = t.json.InputOffset() + tocEntryMax
	}
	return t.delim(']')
}

func (t *tocDecoder) delim(want json.Delim) error {
	have, err := t.json.Token()
	if err != nil {
		return tocError(err)
	}
	if have != want {
		return fmt.Errorf("%w: %v where %v is to be", ErrTOC, have, want)
	}
	return nil
}

func (t *tocDecoder) decode(v any) error {
	if err := t.json.Decode(v); err != nil {
		return tocError(err)
	}
	return nil
}

func tocError(err error) error { return fmt.Errorf("%w: %w", ErrTOC, err) }

// tocReader gives the decoder, which keeps what it has read of a value, no more
// than one entry can have.
type tocReader struct {
	r     io.Reader
	n     int64
	limit int64
	err   error
}

func (t *tocReader) Read(p []byte) (int, error) {
	if t.n >= t.limit || t.n >= tocMax {
		return 0, fmt.Errorf("%w: more than %d bytes in a table of contents, or %d in an entry", ErrLimit, tocMax, tocEntryMax)
	}
	n, err := t.r.Read(p[:min(int64(len(p)), t.limit-t.n, tocMax-t.n)])
	t.n += int64(n)
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}
