package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Layout of the GUID partition table, UEFI specification, section 5.3: a header in the
// second logical block, and an array of entries whose position the header has.
const (
	gptHeaderSize = 92
	gptEntryMin   = 128
	gptEntryMax   = 4096
	gptEntriesMax = 1 << 20 // bytes of the array that are read at most
	gptUUIDOffset = 16      // offset in an entry
)

var errNoGPT = errors.New("no GUID partition table")

// readGPT returns the UUIDs of a disk's partitions by number. It reads the primary
// table only; the kernel also knows the backup table. A caller that needs a UUID that
// is missing here waits for udev.
func readGPT(disk io.ReaderAt, blockSize int64) (map[int]string, error) {
	header := make([]byte, gptHeaderSize)
	if _, err := disk.ReadAt(header, blockSize); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sum := le.Uint32(header[16:])
	copy(header[16:20], []byte{0, 0, 0, 0}) // the header's checksum is made with zeros in its place
	if string(header[:8]) != "EFI PART" || le.Uint32(header[12:]) != gptHeaderSize || crc32.ChecksumIEEE(header) != sum {
		return nil, errNoGPT
	}
	first, count, size := le.Uint64(header[72:]), int64(le.Uint32(header[80:])), int64(le.Uint32(header[84:]))
	if size < gptEntryMin || size > gptEntryMax || size%8 != 0 || count*size > gptEntriesMax || first > 1<<32 {
		return nil, fmt.Errorf("%w: %d entries of %d bytes", errNoGPT, count, size)
	}
	entries := make([]byte, count*size)
	if _, err := disk.ReadAt(entries, int64(first)*blockSize); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return nil, fmt.Errorf("%w: wrong checksum of the entries", errNoGPT)
	}
	uuids := map[int]string{}
	for i := range count {
		entry := entries[i*size:]
		if kind := [16]byte(entry); kind != [16]byte{} {
			uuids[int(i)+1] = guid(entry[gptUUIDOffset:])
		}
	}
	return uuids, nil
}

// guid formats a GUID, whose first three fields are little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// gpt reads the table of a disk, given by the kernel's name; nil when it has none.
func (s System) gpt(name string) map[int]string {
	f, err := os.Open(filepath.Join(s.Dev, name))
	if err != nil {
		return nil
	}
	defer f.Close()
	uuids, err := readGPT(f, s.blockSize(name))
	if err != nil {
		return nil
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
