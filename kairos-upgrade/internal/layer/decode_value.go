package layer

import (
	"errors"
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// string reads the content of n, at most limit bytes.
func (d *decoder) string(n *tree.Inode, limit int) error {
	s, err := d.text(limit)
	n.Content, n.Size = s, int64(len(s))
	return err
}

func (d *decoder) text(limit int) (string, error) {
	size, err := d.number(uint64(limit))
	if err != nil {
		return "", err
	}
	if err := d.spent.meta(int(size)); err != nil {
		return "", err
	}
	if uint64(len(d.buf)) < size {
		d.buf = make([]byte, max(size, 512))
	}
	if err := d.full(d.buf[:size]); err != nil {
		return "", err
	}
	return string(d.buf[:size]), nil
}

// number reads a number of at most limit.
func (d *decoder) number(limit uint64) (uint64, error) {
	v, err := d.varint()
	if err != nil {
		return 0, err
	}
	if v > limit {
		return 0, fmt.Errorf("%d where at most %d is possible", v, limit)
	}
	return v, nil
}

func (d *decoder) full(p []byte) error {
	if _, err := io.ReadFull(d.r, p); err != nil {
		return short(err)
	}
	d.sum.Write(p)
	return nil
}

// varint reads a number as encoding/binary writes it: in no more bytes than it
// needs.
func (d *decoder) varint() (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		if d.one[0], err = d.r.ReadByte(); err != nil {
			return 0, short(err)
		}
		d.sum.Write(d.one[:])
		c := d.one[0]
		v |= uint64(c&0x7f) << shift
		switch {
		case c >= 0x80:
			continue
		case c == 0 && shift > 0, c > 1 && shift == 63:
			return 0, errNumber
		}
		return v, nil
	}
	return 0, errNumber
}

var errNumber = errors.New("malformed number")

// short makes the end of the input an error of its own.
func short(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
