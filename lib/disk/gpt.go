package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Layout of the GUID partition table, UEFI specification, section 5.3: a header in the
// second logical block, and an array of entries whose position the header has.
const (
	gptHeaderSize = 92
	gptEntryMin   = 128
	gptEntryMax   = 4096
	gptEntriesMax = 1 << 20 // bytes that are read of the array
	// In an entry, in bytes.
	gptUUIDOffset  = 16
	gptFirstOffset = 32
	gptLastOffset  = 40
	gptNameOffset  = 56
	gptNameSize    = 72
)

// ErrNoGPT is returned of what has no table, or one with a wrong checksum.
var ErrNoGPT = errors.New("no GUID partition table")

// Entry is a partition as the table itself has it: of a medium whose partitions
// the kernel does not read, as those of a CD. Nobody has checked that it lies on
// the medium.
type Entry struct {
	Number int    // from 1
	UUID   string // lower case
	Label  string
	Start  int64 // bytes from the beginning of the disk
	Size   int64 // bytes
}

// End returns the first byte behind the partition.
func (e Entry) End() int64 { return e.Start + e.Size }

// ReadGPT returns the partitions of a disk with blocks of blockSize bytes, in
// the order of their numbers. It reads the primary table only: the kernel, which
// knows the backup as well, has named the partitions, and who needs a UUID that
// is not here waits for udev. ErrNoGPT: there is none, or it is damaged.
func ReadGPT(disk io.ReaderAt, blockSize int64) ([]Entry, error) {
	header := make([]byte, gptHeaderSize)
	if _, err := disk.ReadAt(header, blockSize); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: too short", ErrNoGPT)
	} else if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sum := le.Uint32(header[16:])
	copy(header[16:20], []byte{0, 0, 0, 0}) // the header's checksum is made with zeros in its place
	if string(header[:8]) != "EFI PART" || le.Uint32(header[12:]) != gptHeaderSize || crc32.ChecksumIEEE(header) != sum {
		return nil, ErrNoGPT
	}
	first, count, size := le.Uint64(header[72:]), int64(le.Uint32(header[80:])), int64(le.Uint32(header[84:]))
	if size < gptEntryMin || size > gptEntryMax || size%8 != 0 || count*size > gptEntriesMax || first > 1<<32 {
		return nil, fmt.Errorf("%w: %d entries of %d bytes", ErrNoGPT, count, size)
	}
	table := make([]byte, count*size)
	if _, err := disk.ReadAt(table, int64(first)*blockSize); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: too short for its entries", ErrNoGPT)
	} else if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(header[88:]) {
		return nil, fmt.Errorf("%w: wrong checksum of the entries", ErrNoGPT)
	}
	var entries []Entry
	for i := range count {
		raw := table[i*size:][:size]
		if kind := [16]byte(raw); kind == [16]byte{} {
			continue
		}
		from, to := le.Uint64(raw[gptFirstOffset:]), le.Uint64(raw[gptLastOffset:])
		if from > to || to >= uint64(math.MaxInt64/blockSize) {
			continue // the kernel passes it over as well
		}
		entries = append(entries, Entry{
			Number: int(i) + 1, UUID: guid(raw[gptUUIDOffset:]), Label: gptName(raw[gptNameOffset:][:gptNameSize]),
			Start: int64(from) * blockSize, Size: int64(to-from+1) * blockSize,
		})
	}
	return entries, nil
}

// gptName reads a name: UTF-16, little-endian, up to the first zero.
func gptName(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && (b[0] != 0 || b[1] != 0); b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// guid formats a GUID, whose first three fields are little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// gpt returns the UUIDs of a disk's partitions by their numbers; nil when there is
// no table. The disk is given by the kernel's name.
func (s System) gpt(name string) map[int]string {
	f, err := os.Open(filepath.Join(s.Dev, name))
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, err := ReadGPT(f, s.blockSize(name))
	if err != nil {
		return nil
	}
	uuids := map[int]string{}
	for _, e := range entries {
		uuids[e.Number] = e.UUID
	}
	return uuids
}

// blockSize returns the size in bytes of a disk's logical blocks.
func (s System) blockSize(name string) int64 {
	text, err := os.ReadFile(filepath.Join(s.Sys, "class/block", name, "queue/logical_block_size"))
	if err != nil {
		return 512
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || size < 512 || size > 1<<16 {
		return 512
	}
	return size
}
