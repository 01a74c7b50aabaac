package mounttest

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"unicode/utf16"
)

// GPTPart is a partition for WriteGPT; its place in bytes.
type GPTPart struct {
	Label, UUID string
	Start, Size int64
}

// WriteGPT writes a partition table into a file, for blocks of 512 bytes, as far
// as it is read: UEFI specification, section 5.3.
func WriteGPT(t testing.TB, file string, parts ...GPTPart) {
	t.Helper()
	const block, entrySize, entries = 512, 128, 128
	le := binary.LittleEndian
	image := make([]byte, 2*block+entries*entrySize)
	table := image[2*block:]
	for i, p := range parts {
		entry := table[i*entrySize:][:entrySize]
		copy(entry, "any type but none")
		copy(entry[16:], guid(t, p.UUID))
		le.PutUint64(entry[32:], uint64(p.Start/block))
		le.PutUint64(entry[40:], uint64((p.Start+p.Size)/block-1))
		for n, unit := range utf16.Encode([]rune(p.Label)) {
			le.PutUint16(entry[56+2*n:], unit)
		}
	}
	header := image[block:][:92]
	copy(header, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(header[72:], 2)
	le.PutUint32(header[80:], entries)
	le.PutUint32(header[84:], entrySize)
	le.PutUint32(header[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
}

// guid is a UUID as a table has it: its first three fields are little-endian.
func guid(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		t.Fatalf("no UUID: %q", text)
	}
	le, be := binary.LittleEndian, binary.BigEndian
	le.PutUint32(b, be.Uint32(b))
	le.PutUint16(b[4:], be.Uint16(b[4:]))
	le.PutUint16(b[6:], be.Uint16(b[6:]))
	return b
}
