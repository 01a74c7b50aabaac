package composefs

import (
	"fmt"
	"io"
)

// An image is read through windows, because all of it in memory would be the
// largest part of what a transaction takes: its inodes lie in about the order
// in which the tree is walked.
const (
	windowBits  = 16 // 64 KiB
	windowSize  = 1 << windowBits
	windowCount = 16
)

// windows gives access to the bytes of an image.
type windows struct {
	r    io.ReaderAt
	size uint64
	kept [windowCount]struct {
		number uint64 // 1 is the first; 0: none is kept here
		bytes  []byte
	}
}

// bytes returns n bytes at off. They stay what they are: a window that is not
// kept any longer is left to the garbage collector.
func (w *windows) bytes(off, n uint64) ([]byte, error) {
	if off > w.size || n > w.size-off {
		return nil, badf("%d bytes at %d are beyond its end", n, off)
	}
	number := off >> windowBits
	if n > 0 && (off+n-1)>>windowBits != number {
		return w.read(off, n)
	}
	kept := &w.kept[number%windowCount]
	if kept.number != number+1 {
		start := number << windowBits
		b, err := w.read(start, min(windowSize, w.size-start))
		if err != nil {
			return nil, err
		}
		kept.number, kept.bytes = number+1, b
	}
	at := off & (windowSize - 1)
	return kept.bytes[at : at+n : at+n], nil
}

func (w *windows) read(off, n uint64) ([]byte, error) {
	b := make([]byte, n)
	have, err := w.r.ReadAt(b, int64(off))
	switch {
	case uint64(have) == n: // perhaps with io.EOF
		return b, nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("%d bytes at %d: %w", n, off, err)
}
