package layer

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// ErrTOC says that a layer's table of contents can't be used. The layer itself may be
// valid: the caller reads it as a whole.
var ErrTOC = errors.New("unusable table of contents")

// Known finds contents in the store by their plain SHA-256.
type Known interface {
	// Object returns the object with a content of size bytes, more than
	// tree.InlineMax. A table may lie about the size: then there is none.
	Object(sum [sha256.Size]byte, size int64) (fsverity.Digest, bool)
	// Inline returns a content of at most tree.InlineMax bytes.
	Inline(sum [sha256.Size]byte) (string, bool)
}

// Partial is a layer that was made from its table of contents. Layer is
// complete once every content that is missing has been put into it.
type Partial struct {
	Layer *Layer
	// Missing are the contents that are not known, each once, in the order of
	// the blob.
	Missing []*Missing
	// Files is the number of files with content, Reused how many of them are
	// known, with ReusedBytes of content.
	Files, Reused int
	ReusedBytes   int64

	spans []span // of all files with content, nil where nobody asks for the gaps
	end   int64  // of the frames in the blob
}

// span is where a content lies in the blob.
type span struct {
	offset, length int64 // in bytes
	node           *tree.Inode
}

// Stored returns how many bytes of the blob are contents.
func (p *Partial) Stored() (sum int64) {
	for _, s := range p.spans {
		sum += s.length
	}
	return sum
}

// Gap is the part of the blob between two contents: frames with tar headers.
type Gap struct{ Offset, Length int64 } // in bytes; Length may be 0

// Gaps returns what lies before, between and behind the contents of the layer, one
// more than there are contents, in order. Error: ErrTOC where contents overlap.
func (p *Partial) Gaps() ([]Gap, error) {
	slices.SortStableFunc(p.spans, func(a, b span) int { return cmp.Compare(a.offset, b.offset) })
	gaps, at := make([]Gap, 0, len(p.spans)+1), int64(0)
	for _, s := range p.spans {
		if s.offset < at {
			return nil, fmt.Errorf("%w: contents overlap at %d", ErrTOC, s.offset)
		}
		gaps = append(gaps, Gap{at, s.offset - at})
		at = s.offset + s.length
	}
	return append(gaps, Gap{at, p.end - at}), nil
}

// Missing is a content that is to be fetched: zstd frames in the blob.
type Missing struct {
	Sum  [sha256.Size]byte
	Size int64 // uncompressed, in bytes
	// Offset and Length of the frames in the blob, in bytes.
	Offset, Length int64

	nodes []*tree.Inode
}

// Object says that the content is now an object.
func (m *Missing) Object(d fsverity.Digest) {
	for _, n := range m.nodes {
		n.Digest = d
	}
}

// Inline gives the layer a content of at most tree.InlineMax bytes.
func (m *Missing) Inline(content string) {
	for _, n := range m.nodes {
		n.Content = content
	}
}

// FromTOC makes a layer of the table of contents of a zstd:chunked blob, which
// r has as JSON. The entries go the way that those of a tar stream go (see
// Import), so that the same layer comes out. end is where the frames end in the
// blob. Stored, Gaps and ImportGaps work withGaps only: 24 bytes per file, which tar-split data
// makes needless.
//
// Errors: those of Import, of r, and ErrTOC for what this version does not
// know, or what a table of contents cannot say: names that are not UTF-8.
func FromTOC(ctx context.Context, r io.Reader, known Known, end int64, withGaps bool, limits Limits) (*Partial, error) {
	limits = limits.WithDefaults()
	c := &tocContent{known: known, end: end, gaps: withGaps}
	im := importer{ctx: ctx, layer: newLayer(), spent: spent{limits: limits}}
	im.content = func(h *tar.Header) (*tree.Inode, error) { return c.file(&im.spent, h.Size) }
	err := readTOC(r, func(e *tocEntry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Type == tocChunk { // a part of the file before it, which is taken whole
			return nil
		}
		if err := im.spent.entry(); err != nil {
			return err
		}
		h, err := e.header()
		if err == nil {
			c.entry = e
			err = im.entry(h)
		}
		if err != nil {
			return fmt.Errorf("entry %q: %w", clip(e.Name), err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	im.layer.entries, im.layer.metadata = im.spent.entries, im.spent.metadata
	p := &Partial{Layer: im.layer, Files: c.files, Reused: c.reused, ReusedBytes: c.reusedBytes, spans: c.spans, end: end}
	p.Missing, err = c.inOrder()
	return p, err
}

// tocContent finds the contents of files.
type tocContent struct {
	known Known
	end   int64
	gaps  bool
	entry *tocEntry // the current one

	files, reused int
	reusedBytes   int64
	missing       []Missing
	spans         []span
}

func (c *tocContent) file(s *spent, size int64) (*tree.Inode, error) {
	if err := s.file(size); err != nil {
		return nil, err
	}
	if size == 0 {
		return tree.NewInline(0, nil), nil
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(c.entry.Digest, "sha256:"))
	if err != nil || len(raw) != sha256.Size {
		return nil, fmt.Errorf("%w: digest %q", ErrTOC, clip(c.entry.Digest))
	}
	from, to := c.entry.Offset, c.entry.EndOffset
	if from < 0 || to <= from || to > c.end {
		return nil, fmt.Errorf("%w: content from %d to %d of %d bytes", ErrTOC, from, to, c.end)
	}
	n, err := c.find(s, [sha256.Size]byte(raw), size)
	if c.gaps {
		c.spans = append(c.spans, span{from, to - from, n})
	}
	return n, err
}

// find returns the file with a content that is here already, or will be.
func (c *tocContent) find(s *spent, sum [sha256.Size]byte, size int64) (*tree.Inode, error) {
	c.files++
	if size <= tree.InlineMax {
		if err := s.meta(int(size)); err != nil {
			return nil, err
		}
		if content, ok := c.known.Inline(sum); ok && int64(len(content)) == size {
			c.reused++
			c.reusedBytes += size
			return tree.NewInline(0, []byte(content)), nil
		}
		n := tree.NewInline(0, nil)
		n.Size = size
		c.miss(sum, size, n)
		return n, nil
	}
	if d, ok := c.known.Object(sum, size); ok {
		c.reused++
		c.reusedBytes += size
		return tree.NewFile(0, size, d), nil
	}
	n := tree.NewFile(0, size, fsverity.Digest{})
	c.miss(sum, size, n)
	return n, nil
}

func (c *tocContent) miss(sum [sha256.Size]byte, size int64, n *tree.Inode) {
	from := c.entry.Offset
	c.missing = append(c.missing, Missing{Sum: sum, Size: size, Offset: from, Length: c.entry.EndOffset - from, nodes: []*tree.Inode{n}})
}

// inOrder returns what is missing, each content once, in the order of the blob.
func (c *tocContent) inOrder() ([]*Missing, error) {
	slices.SortFunc(c.missing, func(a, b Missing) int {
		return cmp.Or(bytes.Compare(a.Sum[:], b.Sum[:]), cmp.Compare(a.Size, b.Size), cmp.Compare(a.Offset, b.Offset))
	})
	var unique []*Missing
	for i := range c.missing {
		m := &c.missing[i]
		if k := len(unique); k > 0 && unique[k-1].Sum == m.Sum && unique[k-1].Size == m.Size {
			unique[k-1].nodes = append(unique[k-1].nodes, m.nodes...)
			continue
		}
		unique = append(unique, m)
	}
	slices.SortFunc(unique, func(a, b *Missing) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(unique); i++ {
		if last := unique[i-1]; last.Offset+last.Length > unique[i].Offset {
			return nil, fmt.Errorf("%w: contents overlap at %d", ErrTOC, unique[i].Offset)
		}
	}
	return unique, nil
}

// tocEntry is an entry of a table of contents, as containers/storage writes it
// (FileMetadata of its package chunked, after CRFS and stargz).
type tocEntry struct {
	Type       string            `json:"type"`
	Name       string            `json:"name"`
	Linkname   string            `json:"linkName"`
	Mode       int64             `json:"mode"`
	Size       int64             `json:"size"`
	UID        int               `json:"uid"`
	GID        int               `json:"gid"`
	ModTime    *time.Time        `json:"modtime"`
	AccessTime json.RawMessage   `json:"accesstime"` // of no interest
	ChangeTime json.RawMessage   `json:"changetime"`
	Devmajor   int64             `json:"devMajor"`
	Devminor   int64             `json:"devMinor"`
	Xattrs     map[string]string `json:"xattrs"`
	// Digest is the SHA-256 of the whole content, Offset and EndOffset are
	// where its frames lie in the blob.
	Digest    string `json:"digest"`
	Offset    int64  `json:"offset"`
	EndOffset int64  `json:"endOffset"`
	// A file may be divided into chunks, with a frame for each, the first of
	// which this entry describes and entries behind it the others.
	ChunkSize   int64  `json:"chunkSize"`
	ChunkOffset int64  `json:"chunkOffset"`
	ChunkDigest string `json:"chunkDigest"`
	ChunkType   string `json:"chunkType"`
}

const tocChunk = "chunk"

// tocTypes are the types of other entries, as in a tar header.
var tocTypes = map[string]byte{
	"reg":      tar.TypeReg,
	"hardlink": tar.TypeLink,
	"char":     tar.TypeChar,
	"block":    tar.TypeBlock,
	"dir":      tar.TypeDir,
	"fifo":     tar.TypeFifo,
	"symlink":  tar.TypeSymlink,
}

// header returns the tar header that the entry was made of.
func (e *tocEntry) header() (*tar.Header, error) {
	typeflag, ok := tocTypes[e.Type]
	if !ok {
		return nil, fmt.Errorf("%w: type %q", ErrTOC, clip(e.Type))
	}
	// JSON holds nothing but UTF-8. What was something else is written as
	// U+FFFD, and only the tar stream says what it was.
	if strings.ContainsRune(e.Name, utf8.RuneError) || strings.ContainsRune(e.Linkname, utf8.RuneError) {
		return nil, fmt.Errorf("%w: a name that is not UTF-8", ErrTOC)
	}
	h := &tar.Header{
		Typeflag: typeflag,
		Name:     e.Name,
		Linkname: e.Linkname,
		Mode:     e.Mode,
		Size:     e.Size,
		Uid:      e.UID,
		Gid:      e.GID,
		Devmajor: e.Devmajor,
		Devminor: e.Devminor,
	}
	if e.ModTime != nil { // else it is the zero Time, which a tar header can hold
		h.ModTime = *e.ModTime
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.Xattrs))
	}
	for name, value := range e.Xattrs {
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil || strings.ContainsRune(name, utf8.RuneError) {
			return nil, fmt.Errorf("%w: extended attribute %q", ErrTOC, clip(name))
		}
		h.PAXRecords[paxXattr+name] = string(raw)
	}
	return h, nil
}
