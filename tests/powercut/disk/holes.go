package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// punch makes a hole.
func (p *Partition) punch(offset, length int64) error {
	return unix.Fallocate(int(p.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
}

// used calls do for each block, or part of one, of a range that is no hole.
func (p *Partition) used(offset, length int64, do func(at, n int64) error) error {
	for end := offset + length; offset < end; {
		from, err := unix.Seek(int(p.file.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || from >= end {
			return nil
		}
		if err != nil {
			return err
		}
		to, err := unix.Seek(int(p.file.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := blocks(from, min(to, end)-from, do); err != nil {
			return err
		}
		offset = to
	}
	return nil
}
