package source

import (
	"context"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"

	"go.podman.io/image/v5/types"
)

// Range is a part of a blob, in bytes.
type Range struct{ Offset, Length int64 }

// ErrRanges says that the registry or archive does not serve parts of a blob:
// it has to be fetched as a whole.
var ErrRanges = errors.New("parts of blobs can't be read there")

// maxRanges is how many ranges a request has at most. The header Range takes
// up to 22 bytes for each; 128 fit into the 4 KiB that the smallest proxies
// take, and are below the 200 from which Apache sends the whole file.
const maxRanges = 128

// blobAt reads parts of blobs.
//
// containers/image does so for its own use only: the method GetBlobAt is
// exported, the type of the chunks that it takes is internal. A client of our
// own would have to know what containers/image knows of mirrors, certificates,
// credentials and tokens, so the method is called by reflection. A test holds
// it against a registry; where it is missing or has another form, ranges are
// not supported, and layers are read whole.
type blobAt struct {
	method reflect.Value
	chunks reflect.Type // []private.ImageSourceChunk
}

// newBlobAt returns nil if a source can't read parts.
func newBlobAt(source types.ImageSource) *blobAt {
	method := reflect.ValueOf(source).MethodByName("GetBlobAt")
	if !method.IsValid() {
		return nil
	}
	t := method.Type()
	if t.NumIn() != 3 || t.NumOut() != 3 || t.IsVariadic() ||
		t.In(0) != reflect.TypeFor[context.Context]() || t.In(1) != reflect.TypeFor[types.BlobInfo]() ||
		t.Out(0) != reflect.TypeFor[chan io.ReadCloser]() || t.Out(1) != reflect.TypeFor[chan error]() ||
		t.Out(2) != reflect.TypeFor[error]() {
		return nil
	}
	chunks := t.In(2)
	if chunks.Kind() != reflect.Slice || chunks.Elem().Kind() != reflect.Struct {
		return nil
	}
	for _, name := range []string{"Offset", "Length"} {
		if f, ok := chunks.Elem().FieldByName(name); !ok || f.Type.Kind() != reflect.Uint64 {
			return nil
		}
	}
	return &blobAt{method, chunks}
}

// request asks for ranges, which are in order and don't overlap. They come
// from parts, one after the other, each to be closed before the next; a failure
// comes from errs. Both are closed at the end.
func (b *blobAt) request(ctx context.Context, info types.BlobInfo, ranges []Range) (parts chan io.ReadCloser, errs chan error, err error) {
	chunks := reflect.MakeSlice(b.chunks, len(ranges), len(ranges))
	for i, r := range ranges {
		length := uint64(math.MaxUint64) // to the end
		if r.Length >= 0 {
			length = uint64(r.Length)
		}
		chunks.Index(i).FieldByName("Offset").SetUint(uint64(r.Offset))
		chunks.Index(i).FieldByName("Length").SetUint(length)
	}
	out := b.method.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(info), chunks})
	if err, _ := out[2].Interface().(error); err != nil {
		return nil, nil, err
	}
	return out[0].Interface().(chan io.ReadCloser), out[1].Interface().(chan error), nil
}

// requestRanges asks a source for ranges. Errors: ErrRanges.
func requestRanges(ctx context.Context, source types.ImageSource, info types.BlobInfo, ranges []Range) (parts chan io.ReadCloser, errs chan error, err error) {
	at := newBlobAt(source)
	if at == nil {
		return nil, nil, ErrRanges
	}
	return at.request(ctx, info, ranges)
}

// abandon lets the goroutine behind a request end, whose context is done.
func abandon(parts chan io.ReadCloser, errs chan error) {
	for parts != nil || errs != nil {
		select {
		case part, ok := <-parts:
			if !ok {
				parts = nil
				continue
			}
			part.Close()
		case _, ok := <-errs:
			if !ok {
				errs = nil
			}
		}
	}
}

// rangesOf returns how many ranges a request for parts of a blob may have; 0,
// that it may not be made.
//
// A server may answer any such request with the whole blob, and containers/image
// then reads through all of it. So it is asked first for what lies behind the
// end: who understands ranges says 416, Range Not Satisfiable, and who doesn't
// is hung up on. Some, S3 for one, know one range but not several.
func (img *Image) rangesOf(ctx context.Context, i int) int {
	img.probing.Lock()
	defer img.probing.Unlock()
	l := img.Layers[i]
	for {
		here := img.here()
		if l.Size < 0 || newBlobAt(here) == nil {
			return 0
		}
		if known, ok := img.ranges[here]; ok {
			return known
		}
		ranges, err := img.probe(ctx, here, l)
		if ctx.Err() != nil {
			return 0
		}
		if isMissing(err) && img.elsewhere(ctx, here, err) {
			continue
		}
		img.log.Debug("ranges of blobs", "at", img.Name, "in one request", ranges)
		if img.ranges == nil {
			img.ranges = map[types.ImageSource]int{}
		}
		img.ranges[here] = ranges
		return ranges
	}
}

// probe asks one place for what lies behind the end of a blob, as rangesOf says.
func (img *Image) probe(ctx context.Context, here types.ImageSource, l Layer) (ranges int, err error) {
	for _, n := range []int{maxRanges, 1} {
		behind := []Range{{l.Size, 8}, {l.Size + 16, 8}}[:min(n, 2)]
		var ok bool
		if ok, err = img.unsatisfiable(ctx, here, l.info, behind); ok {
			return n, nil
		}
	}
	return 0, err
}

func (img *Image) unsatisfiable(ctx context.Context, here types.ImageSource, info types.BlobInfo, ranges []Range) (bool, error) {
	ctx, guard := img.guard(ctx)
	defer guard.stop()
	var parts chan io.ReadCloser
	var errs chan error
	err := guard.open(func() (err error) {
		parts, errs, err = requestRanges(ctx, here, info, ranges)
		return err
	})
	if err == nil {
		guard.stop()
		abandon(parts, errs)
		return false, nil
	}
	// Some registries (docker-registry built with Go before 1.23) send the length
	// of the whole blob with 416, and hang up: what describes the error never
	// comes. Who doesn't understand ranges answers 200, which is no error.
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return true, nil
	}
	// containers/image has no type for it.
	return strings.Contains(err.Error(), "StatusCode: 416") || strings.Contains(err.Error(), "RANGE_INVALID"), err
}

// plan says which requests ReadRanges makes for ranges, which are in order and
// don't overlap: neighbours that are at most gap bytes apart are read as one.
func plan(ranges []Range, gap int64, perRequest int) (requests [][]Range) {
	var merged []Range
	for _, r := range ranges {
		if k := len(merged) - 1; k >= 0 && r.Offset-merged[k].Offset-merged[k].Length <= gap {
			merged[k].Length = r.Offset + r.Length - merged[k].Offset
			continue
		}
		merged = append(merged, r)
	}
	for len(merged) > 0 {
		n := min(perRequest, len(merged))
		requests = append(requests, merged[:n])
		merged = merged[n:]
	}
	return requests
}

// Bytes between two ranges that are rather read than left out: in an answer
// with several parts each takes about 200 bytes of headers, and a request of
// its own takes a round trip.
const (
	gapInRequest  = 256
	gapOfRequests = 16 << 10
)

// ReadRanges reads ranges of a layer's blob, which are in order and don't
// overlap, and calls read for each with its bytes: exactly as many as it has, or
// an error. What read leaves is skipped; its error ends the reading. A broken
// connection is made again for what is left. Errors: ErrRanges, those of the
// network, of ctx, and of read.
func (img *Image) ReadRanges(ctx context.Context, i int, ranges []Range, read func(k int, r io.Reader) error) error {
	perRequest := img.rangesOf(ctx, i)
	if perRequest == 0 {
		return errors.Join(ctx.Err(), ErrRanges)
	}
	gap := int64(gapInRequest)
	if perRequest == 1 {
		gap = gapOfRequests
	}
	k := 0
	for _, request := range plan(ranges, gap, perRequest) {
		n, err := img.readRequest(ctx, i, request, ranges[k:], func(n int, r io.Reader) error { return read(k+n, r) })
		if err != nil {
			return err
		}
		k += n
	}
	return nil
}

// readRequest reads those of wanted that one request covers, and returns how
// many they are.
func (img *Image) readRequest(ctx context.Context, i int, request, wanted []Range, read func(n int, r io.Reader) error) (n int, err error) {
	r := newRangeReader(ctx, img, i, request)
	defer r.Close()
	for _, part := range request {
		for n < len(wanted) && wanted[n].Offset < part.Offset+part.Length {
			want := wanted[n]
			if _, err := io.CopyN(io.Discard, r, want.Offset-r.offset()); err != nil {
				return n, r.explain(err)
			}
			if err := read(n, io.LimitReader(r, want.Length)); err != nil {
				return n, r.explain(err)
			}
			n++
			if _, err := io.CopyN(io.Discard, r, want.Offset+want.Length-r.offset()); err != nil {
				return n, r.explain(err)
			}
		}
		if err := r.next(); err != nil {
			return n, r.explain(err)
		}
	}
	return n, nil
}
