package source

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/types"
)

// A zstd:chunked blob is an ordinary zstd stream of a tar stream, with two
// additions: the content of each file is in frames of its own, and a table of
// contents lies in a skippable frame at the end, with all that the tar stream has
// beside contents (tar-split) in another one behind it. Annotations of the layer
// in the manifest say where, and have the digest of the table. (containers/storage,
// pkg/chunked, and its docs/containers-storage-zstd-chunked.md.)
//
// The table says what to fetch, and nothing else: whether the layer is the one
// whose DiffID the image names is known from the tar stream put together again.
// Without tar-split data, what lies between the contents is fetched for that.
const (
	annotationTOC         = "io.github.containers.zstd-chunked.manifest-checksum"
	annotationTOCPosition = "io.github.containers.zstd-chunked.manifest-position"
	annotationSplit       = "io.github.containers.zstd-chunked.tarsplit-position"
)

// TOC says where a layer's table of contents is.
type TOC struct {
	// Digest is that of the table as it lies in the blob, compressed.
	Digest digest.Digest
	Range
	// Uncompressed is its length in bytes as JSON.
	Uncompressed int64
	// Split is where the tar-split data are, behind the table. Older programs left
	// them out: then it is empty.
	Split Range
}

// Frames is where the frames of the layer itself end: the table is in a skippable
// frame behind them, whose header has eight bytes.
func (t *TOC) Frames() int64 { return t.Offset - 8 }

// maxTOC is how long a table may be in the blob, in bytes.
const maxTOC = 128 << 20

// tocOf reads the annotations of a layer. Without, or with ones that make no
// sense, the layer has no table: it can still be read whole.
func tocOf(info types.BlobInfo) *TOC {
	d, err := digest.Parse(info.Annotations[annotationTOC])
	if err != nil || d.Algorithm() != digest.SHA256 || info.Size < 0 {
		return nil
	}
	table, ok := numbers(strings.TrimSuffix(info.Annotations[annotationTOCPosition], ":1")) // the type of the table: CRFS
	if !ok || !strings.HasSuffix(info.Annotations[annotationTOCPosition], ":1") {
		return nil
	}
	t := &TOC{Digest: d, Range: Range{table[0], table[1]}, Uncompressed: table[2]}
	if t.Length > maxTOC || t.Frames() < 0 || t.Offset > info.Size-t.Length {
		return nil
	}
	position, has := info.Annotations[annotationSplit]
	if !has {
		return t
	}
	split, ok := numbers(position)
	t.Split = Range{split[0], split[1]}
	if !ok || t.Split.Length > maxTOC || t.Split.Offset > info.Size-t.Split.Length || t.Offset > t.Split.Offset-t.Length {
		return nil
	}
	return t
}

// numbers reads offset, length and uncompressed length.
func numbers(s string) (n [3]int64, ok bool) {
	fields := strings.Split(s, ":")
	if len(fields) != len(n) {
		return n, false
	}
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil || n[i] <= 0 {
			return n, false
		}
	}
	return n, true
}

// ReadTOC calls read with the table of contents of a layer, as JSON. What read
// makes of it must not be used before ReadTOC returns without error: only then
// it is the table that the manifest names. Errors: ErrRanges, ErrDigest, those
// of read.
func (img *Image) ReadTOC(ctx context.Context, i int, read func(r io.Reader) error) error {
	toc := img.Layers[i].TOC
	return img.ReadRanges(ctx, i, []Range{toc.Range}, func(_ int, r io.Reader) error {
		sum := toc.Digest.Verifier()
		compressed := io.TeeReader(r, sum)
		z, err := newFrames(compressed)
		if err != nil {
			return err
		}
		defer z.Close()
		plain := &io.LimitedReader{R: z, N: toc.Uncompressed}
		if err := read(plain); err != nil {
			return err
		}
		if n, err := io.Copy(io.Discard, z); err != nil || n+plain.N > 0 {
			return fmt.Errorf("table of contents of layer %d: not %d bytes long (%w)", i+1, toc.Uncompressed, ErrDigest)
		}
		if _, err := io.Copy(io.Discard, compressed); err != nil {
			return err
		}
		if !sum.Verified() {
			return fmt.Errorf("table of contents of layer %d: %w %s", i+1, ErrDigest, toc.Digest)
		}
		return nil
	})
}

// Frames decompresses frames of a layer, one reader after the other.
type Frames struct{ *zstd.Decoder }

// NewFrames makes one, which must be closed.
func NewFrames() (Frames, error) {
	z, err := newFrames(nil)
	return Frames{z}, err
}

// Of returns what the frames in r hold. It is good until the next call. What it
// reads has not been checked.
func (f Frames) Of(r io.Reader) (io.Reader, error) { return f.Decoder, f.Reset(r) }

func newFrames(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}
