package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compression of a stream, told by its first bytes: media types of layers lie
// often enough.
type compression int

const (
	uncompressed compression = iota
	gzipped
	zstandard
)

// maxWindow bounds the memory that a zstd stream can claim: 128 MiB is what
// zstd --ultra -22 uses.
const maxWindow = 128 << 20

// magicLen is the number of bytes that detect needs.
const magicLen = 6

func detect(head []byte) (compression, error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 0x08}):
		return gzipped, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstandard, nil
	// A skippable frame, which a zstd stream may begin with.
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return zstandard, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return 0, errors.New("it is compressed with bzip2, which the image specifications do not allow")
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return 0, errors.New("it is compressed with xz, which the image specifications do not allow")
	}
	return uncompressed, nil
}

// compressionOf looks at the beginning of a file and leaves its offset there.
func compressionOf(f *os.File) (compression, error) {
	head := make([]byte, magicLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	return detect(head[:n])
}

// reader returns the uncompressed stream. To close it does not close r.
func (c compression) reader(r io.Reader) (io.ReadCloser, error) {
	switch c {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return z, nil
	case zstandard:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// decompress returns the uncompressed stream of r.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(magicLen)
	if err != nil && err != io.EOF {
		return nil, err
	}
	c, err := detect(head)
	if err != nil {
		return nil, err
	}
	return c.reader(r)
}

// contextReader fails once ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
