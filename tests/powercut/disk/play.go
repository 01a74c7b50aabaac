package disk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/kairos-io/toolkit/tests/powercut/writelog"
)

// Advance makes all entries before to durable.
func (d *Disk) Advance(to int) error {
	if len(d.undo) > 0 {
		return errors.New("advance a disk that is cut")
	}
	for ; d.at < to; d.at++ {
		whole := writelog.Piece{Entry: d.at, Count: d.log.Entry(d.at).Sectors}
		if err := d.play(whole, false); err != nil {
			return fmt.Errorf("play entry %d: %w", d.at, err)
		}
	}
	return nil
}

// Cut makes the disk what a cut leaves, until Restore. Cuts come in the order of what is durable.
func (d *Disk) Cut(cut writelog.Cut) error {
	if cut.Durable < d.at {
		return fmt.Errorf("%s: the disk is at %d already", cut, d.at)
	}
	if err := d.Advance(cut.Durable); err != nil {
		return err
	}
	for _, piece := range cut.Pieces {
		if err := d.play(piece, true); err != nil {
			return fmt.Errorf("play entry %d: %w", piece.Entry, err)
		}
	}
	return nil
}

// Restore takes back what Cut did.
func (d *Disk) Restore() error {
	for _, u := range slices.Backward(d.undo) {
		if err := u.restore(); err != nil {
			return err
		}
	}
	d.undo = nil
	return nil
}

// play writes a piece of an entry. The content of sectors that were given up is nothing that anybody may
// count on: they read as zeros.
func (d *Disk) play(piece writelog.Piece, undoable bool) error {
	entry := d.log.Entry(piece.Entry)
	if piece.Count == 0 || entry.Is(writelog.Mark) {
		return nil
	}
	data, err := d.log.Data(entry)
	if err != nil {
		return err
	}
	start, length := int64(piece.First)*writelog.SectorSize, int64(piece.Count)*writelog.SectorSize
	if start+length > entry.Bytes() {
		return fmt.Errorf("it has %d sectors, not %d", entry.Sectors, piece.First+piece.Count)
	}
	disk := int64(entry.Sector) * writelog.SectorSize
	return d.each(disk+start, length, func(p *Partition, offset, done, n int64) error {
		var part []byte
		if data != nil {
			part = data[start+done : start+done+n]
		}
		return d.write(p, offset, n, part, uint64(piece.Entry), undoable)
	})
}

// write writes block by block, so that each has its stamp; nil writes zeros.
func (d *Disk) write(p *Partition, offset, length int64, data []byte, entry uint64, undoable bool) error {
	if data == nil {
		return d.discard(p, offset, length, entry, undoable)
	}
	if !undoable {
		if _, err := p.file.WriteAt(data, offset); err != nil {
			return err
		}
	}
	return blocks(offset, length, func(at, n int64) error {
		if undoable {
			u, err := p.remember(at, n)
			if err != nil {
				return err
			}
			d.undo = append(d.undo, u)
			if _, err := p.file.WriteAt(data[at-offset:at-offset+n], at); err != nil {
				return err
			}
		}
		p.stamp(at, n, entry)
		return nil
	})
}

// remember returns how to take back what is about to be written to a part of a block. Zeros take no memory:
// a disk that is being filled has little else.
func (p *Partition) remember(at, n int64) (undo, error) {
	old := make([]byte, n)
	if _, err := p.file.ReadAt(old, at); err != nil {
		return undo{}, err
	}
	if bytes.Equal(old, zeros[:n]) {
		old = nil
	}
	return undo{p, at, n, old, p.stamps[at/BlockSize]}, nil
}

func (u undo) restore() error {
	u.partition.restamp(u.offset/BlockSize, u.stamp)
	if u.data == nil {
		return u.partition.punch(u.offset, u.length)
	}
	_, err := u.partition.file.WriteAt(u.data, u.offset)
	return err
}

var zeros = make([]byte, BlockSize)

// discard writes zeros where there is something else: sectors of a large disk are mostly given up unused.
func (d *Disk) discard(p *Partition, offset, length int64, entry uint64, undoable bool) error {
	if !undoable {
		if err := p.punch(offset, length); err != nil {
			return err
		}
		return blocks(offset, length, func(at, n int64) error {
			p.stamp(at, n, entry)
			return nil
		})
	}
	return p.used(offset, length, func(at, n int64) error {
		return d.write(p, at, n, zeros[:n], entry, true)
	})
}

// blocks calls do for each block that a range touches, with the part of the range that is in it.
func blocks(offset, length int64, do func(at, n int64) error) error {
	for end := offset + length; offset < end; {
		n := min(end, (offset/BlockSize+1)*BlockSize) - offset
		if err := do(offset, n); err != nil {
			return err
		}
		offset += n
	}
	return nil
}

// stamp notes that an entry wrote n bytes at an offset.
func (p *Partition) stamp(offset, n int64, entry uint64) {
	block := offset / BlockSize
	was := p.stamps[block]
	if n == BlockSize {
		was = 0 // nothing of it is left
	}
	within := uint64(offset%BlockSize/writelog.SectorSize)<<8 | uint64(n/writelog.SectorSize)
	p.restamp(block, mix(mix(was^0x9e3779b97f4a7c15)^(entry+1)<<16^within))
}

// restamp keeps the sum of all stamps, in which a block's place counts too.
func (p *Partition) restamp(block int64, stamp uint64) {
	p.sum ^= mix(p.stamps[block] ^ mix(uint64(block)))
	p.sum ^= mix(stamp ^ mix(uint64(block)))
	p.stamps[block] = stamp
}

// mix is the finaliser of SplitMix64: equal results for different numbers are impossible, and patterns
// vanish.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
