// Package writelog reads the log of a block device's writes, in the format of Linux' dm-log-writes
// (Documentation/admin-guide/device-mapper/log-writes.rst, drivers/md/dm-log-writes.c), as QEMU's
// blklogwrites driver writes it, and plays it: the device as it may be after a power cut.
//
// QEMU logs a request when it has been completed. A write that was completed while a flush was under way
// therefore lies before that flush, and counts as durable, though a device need not have made it so.
package writelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// SectorSize is what a device writes whole or not at all, in bytes.
const SectorSize = 512

// Flags of an entry.
const (
	Flush   = 1 << 0 // all that was completed before is durable
	FUA     = 1 << 1 // this write is durable when it is completed
	Discard = 1 << 2 // the sectors' content is given up; there is no data
	Mark    = 1 << 3 // the data is a label, not written to the device

	allFlags = Flush | FUA | Discard | Mark
)

const (
	magic      = 0x6a736677736872
	version    = 1
	superSize  = 8 + 8 + 8 + 4
	headerSize = 4 * 8
	// maxEntries and maxWrite bound what a log may ask for: 4 GiB of a single write is no log of ours.
	maxEntries = 1 << 26
	maxWrite   = 1 << 32
)

// ErrFormat says that a file is no log, or a damaged one.
var ErrFormat = errors.New("not a log of writes")

// Entry is a request that the device has completed.
type Entry struct {
	Sector  uint64 // of SectorSize bytes, on the device
	Sectors uint64
	Flags   uint64
	offset  int64 // of the data in the log
}

// Is reports whether a flag is set.
func (e Entry) Is(flag uint64) bool { return e.Flags&flag != 0 }

// Bytes is the length of the part of the device that is written or given up.
func (e Entry) Bytes() int64 { return int64(e.Sectors) * SectorSize }

// Log is an open log.
type Log struct {
	file    io.ReaderAt
	close   func() error
	entries []Entry
}

// Open opens a log in a file. The caller must close it.
func Open(path string) (*Log, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		var l *Log
		if l, err = Read(file, info.Size()); err == nil {
			l.close = file.Close
			return l, nil
		}
	}
	file.Close()
	return nil, fmt.Errorf("read %s: %w", path, err)
}

// Read reads a log of size bytes. Entries behind the last that the superblock counts are left out.
func Read(file io.ReaderAt, size int64) (*Log, error) {
	l := &Log{file: file, close: func() error { return nil }}
	var super [superSize]byte
	if _, err := file.ReadAt(super[:], 0); err == io.EOF {
		return l, nil // nothing was flushed yet
	} else if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	count, sector := le.Uint64(super[16:]), int64(le.Uint32(super[24:]))
	switch {
	case le.Uint64(super[:]) == 0:
		return l, nil
	case le.Uint64(super[:]) != magic || le.Uint64(super[8:]) != version:
		return nil, ErrFormat
	case sector < SectorSize || sector > 1<<20 || sector&(sector-1) != 0:
		return nil, fmt.Errorf("%w: sectors of %d bytes", ErrFormat, sector)
	case count > maxEntries || int64(count) > size/sector:
		return nil, fmt.Errorf("%w: %d entries in %d bytes", ErrFormat, count, size)
	}
	at := sector
	l.entries = make([]Entry, 0, count)
	for i := range count {
		entry, next, err := readEntry(file, at, sector, size)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		l.entries = append(l.entries, entry)
		at = next
	}
	return l, nil
}

// readEntry returns the entry at an offset in the log, and the offset of the next one.
func readEntry(file io.ReaderAt, at, sector, size int64) (Entry, int64, error) {
	var header [headerSize]byte
	if at > size-sector {
		return Entry{}, 0, fmt.Errorf("%w: it reaches beyond the end", ErrFormat)
	}
	if _, err := file.ReadAt(header[:], at); err != nil {
		return Entry{}, 0, err
	}
	le := binary.LittleEndian
	e := Entry{Sector: le.Uint64(header[:]), Sectors: le.Uint64(header[8:]), Flags: le.Uint64(header[16:]), offset: at + sector}
	per := uint64(sector / SectorSize)
	if e.Flags&^allFlags != 0 {
		return e, 0, fmt.Errorf("%w: flags %#x", ErrFormat, e.Flags)
	}
	if e.Sectors > maxWrite/SectorSize && !e.Is(Discard) || e.Sectors > 1<<54 || e.Sector > 1<<54 {
		return e, 0, fmt.Errorf("%w: %d sectors at %d", ErrFormat, e.Sectors, e.Sector)
	}
	e.Sector, e.Sectors = e.Sector*per, e.Sectors*per
	next := e.offset
	switch {
	case e.Is(Mark):
		next += roundUp(int64(le.Uint64(header[24:])&(1<<30-1)), sector)
	case !e.Is(Discard):
		next += e.Bytes()
	}
	if next > size {
		return e, 0, fmt.Errorf("%w: it reaches beyond the end", ErrFormat)
	}
	return e, next, nil
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// Len is the number of entries.
func (l *Log) Len() int { return len(l.entries) }

// Entry returns one of them; the first is 0.
func (l *Log) Entry(i int) Entry { return l.entries[i] }

// ForgetFlushes makes the log that of a machine that never flushes: a power cut may lose anything.
func (l *Log) ForgetFlushes() {
	for i := range l.entries {
		l.entries[i].Flags &^= Flush
	}
}

// Data reads what an entry writes. Discards write nothing.
func (l *Log) Data(e Entry) ([]byte, error) {
	if e.Is(Discard | Mark) {
		return nil, nil
	}
	data := make([]byte, e.Bytes())
	if _, err := l.file.ReadAt(data, e.offset); err != nil && !(err == io.EOF && len(data) == 0) {
		return nil, fmt.Errorf("read the data of a write: %w", err)
	}
	return data, nil
}

// Close closes the file.
func (l *Log) Close() error { return l.close() }
