package composefs

import (
	"encoding/binary"
	"io"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

// output buffers an image, hashes it, and keeps the first error.
type output struct {
	w       io.Writer
	hasher  *fsverity.Hasher
	buf     []byte
	flushed uint64 // bytes already flushed
	err     error
}

func newOutput(w io.Writer) *output {
	return &output{w: w, hasher: fsverity.NewHasher(), buf: make([]byte, 0, 128<<10)}
}

func (o *output) pos() uint64 { return o.flushed + uint64(len(o.buf)) }

func (o *output) flush() {
	if o.err == nil {
		o.hasher.Write(o.buf)
		_, o.err = o.w.Write(o.buf)
	}
	o.flushed += uint64(len(o.buf))
	o.buf = o.buf[:0]
}

// room flushes if there is less than a block left in the buffer.
func (o *output) room() {
	if cap(o.buf)-len(o.buf) < blockSize {
		o.flush()
	}
}

func (o *output) u8(v uint8)      { o.buf = append(o.buf, v) }
func (o *output) u16(v uint16)    { o.buf = binary.LittleEndian.AppendUint16(o.buf, v) }
func (o *output) u32(v uint32)    { o.buf = binary.LittleEndian.AppendUint32(o.buf, v) }
func (o *output) u64(v uint64)    { o.buf = binary.LittleEndian.AppendUint64(o.buf, v) }
func (o *output) string(s string) { o.buf = append(o.buf, s...) }

func (o *output) zeros(n uint64) {
	for ; n > 0; n-- {
		o.buf = append(o.buf, 0)
	}
}

func (o *output) align(to uint64) { o.zeros(roundUp(o.pos(), to) - o.pos()) }

func (o *output) finish() (fsverity.Digest, error) {
	o.flush()
	return o.hasher.Sum(), o.err
}
