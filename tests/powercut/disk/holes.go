package disk

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// punch makes a hole.
func (p *Partition) punch(offset, length int64) error {
	return unix.Fallocate(int(p.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
}

// used calls do for each block, or part of one, of a range that is no hole.
func (p *Partition) used(offset, length int64, do func(at, n int64) error) error {
	return data(p.file, offset, offset+length, func(from, to int64) error { return blocks(from, to-from, do) })
}

// copyData calls write with all that is no hole in the first size bytes of a file.
func copyData(source *os.File, size int64, write func(data []byte, at int64) error) error {
	buf := make([]byte, 1<<20)
	return data(source, 0, size, func(from, to int64) error {
		for from < to {
			n, err := source.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
			if err != nil && (err != io.EOF || n == 0) {
				return err
			}
			if err := write(buf[:n], from); err != nil {
				return err
			}
			from += int64(n)
		}
		return nil
	})
}

// data calls do for each part of [offset, end) in a file that is no hole.
func data(file *os.File, offset, end int64, do func(from, to int64) error) error {
	for offset < end {
		from, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && from >= end {
			return nil
		}
		if err != nil {
			return err
		}
		to, err := unix.Seek(int(file.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		to = min(to, end)
		if err := do(from, to); err != nil {
			return err
		}
		offset = to
	}
	return nil
}
