// Package gpt writes GUID partition tables into files: UEFI specification,
// section 5.3. lib/disk reads them.
//
// It is written here rather than by systemd-repart, which needs loop devices on
// Debian 12 and chooses other sizes with each version: the same image must make
// the same medium on every build machine.
package gpt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// Block is the size of logical blocks in bytes. CDs have larger ones; firmware and
// Linux's partition scanner read this table there as well.
const Block = 512

// Align is what partitions begin and end at, in bytes.
const Align = 1 << 20

const (
	entrySize  = 128
	entries    = 128
	headerSize = 92
	arrayLen   = entrySize * entries
	// tableLen is the length of one copy: header and entries.
	tableLen = Block + arrayLen
)

// Types of partitions: the Discoverable Partitions Specification, GRUB's manual.
const (
	ESP          = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	BIOSBoot     = "21686148-6449-6e6f-744e-656564454649"
	BasicData    = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" // what desktops mount
	LinuxGeneric = "0fc63daf-8483-4772-8e79-3d69d8477de4"
)

// Partition is a partition to be.
type Partition struct {
	Type  string // GUID
	UUID  string
	Label string // 36 UTF-16 units at most
	Start int64  // bytes, a multiple of Align
	Size  int64  // bytes, a multiple of Align
}

// ID returns the UUID (RFC 9562, version 8) that belongs to a name and a seed.
func ID(seed, name string) string {
	sum := sha256.Sum256([]byte(seed + "\x00" + name))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// Size returns the size in bytes of a disk with these partitions, placed one after
// the other by Place.
func Size(parts []Partition) int64 {
	size := int64(Align)
	for _, p := range parts {
		size += p.Size
	}
	return size + Align // the backup
}

// Place gives partitions their places, one after the other.
func Place(parts []Partition) {
	at := int64(Align)
	for i := range parts {
		parts[i].Start = at
		at += parts[i].Size
	}
}

// Write writes the protective MBR and both copies of the table of a disk of size
// bytes. The boot code of the MBR is left as it is.
func Write(w io.WriterAt, size int64, disk string, parts []Partition) error {
	if size%Block != 0 || size < Size(nil) || len(parts) > entries {
		return fmt.Errorf("partition table: %d partitions on %d bytes", len(parts), size)
	}
	array := make([]byte, arrayLen)
	le := binary.LittleEndian
	end := int64(Align)
	for i, p := range parts {
		if p.Start%Align != 0 || p.Size%Align != 0 || p.Size <= 0 || p.Start < end || p.Start+p.Size > size-Align {
			return fmt.Errorf("partition table: %s of %d bytes at %d", p.Label, p.Size, p.Start)
		}
		end = p.Start + p.Size
		e := array[i*entrySize:][:entrySize]
		kind, err := guid(p.Type)
		if err != nil {
			return err
		}
		id, err := guid(p.UUID)
		if err != nil {
			return err
		}
		name := utf16.Encode([]rune(p.Label))
		if len(name) > 36 {
			return fmt.Errorf("partition table: label %q is too long", p.Label)
		}
		copy(e, kind[:])
		copy(e[16:], id[:])
		le.PutUint64(e[32:], uint64(p.Start/Block))
		le.PutUint64(e[40:], uint64((p.Start+p.Size)/Block-1))
		for n, unit := range name {
			le.PutUint16(e[56+2*n:], unit)
		}
	}
	id, err := guid(disk)
	if err != nil {
		return err
	}
	last := size/Block - 1
	header := func(at, other, table int64) []byte {
		h := make([]byte, Block)
		copy(h, "EFI PART\x00\x00\x01\x00")
		le.PutUint32(h[12:], headerSize)
		le.PutUint64(h[24:], uint64(at))
		le.PutUint64(h[32:], uint64(other))
		le.PutUint64(h[40:], 1+tableLen/Block)            // first usable
		le.PutUint64(h[48:], uint64(last-tableLen/Block)) // last usable
		copy(h[56:], id[:])
		le.PutUint64(h[72:], uint64(table))
		le.PutUint32(h[80:], entries)
		le.PutUint32(h[84:], entrySize)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
		return h
	}
	for _, part := range []struct {
		at   int64
		data []byte
	}{
		{446, protective(last)},
		{Block, header(1, last, 2)},
		{2 * Block, array},
		{last*Block - arrayLen, array},
		{last * Block, header(last, 1, last-arrayLen/Block)},
	} {
		if _, err := w.WriteAt(part.data, part.at); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	return nil
}

// protective returns the partition table and the signature of the protective MBR:
// one partition over the whole disk. It is marked active, since some BIOSes start
// no disk without an active partition.
func protective(last int64) []byte {
	b := make([]byte, 66)
	b[0] = 0x80
	copy(b[1:], "\x00\x02\x00\xee\xff\xff\xff")
	binary.LittleEndian.PutUint32(b[8:], 1)
	binary.LittleEndian.PutUint32(b[12:], uint32(min(last, 0xffffffff)))
	b[64], b[65] = 0x55, 0xaa
	return b
}

// guid returns a GUID as a table has it: its first three fields are little-endian.
func guid(text string) (g [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(g) {
		return g, fmt.Errorf("partition table: not a GUID: %q", text)
	}
	copy(g[:], b)
	be, le := binary.BigEndian, binary.LittleEndian
	le.PutUint32(g[:], be.Uint32(b))
	le.PutUint16(g[4:], be.Uint16(b[4:]))
	le.PutUint16(g[6:], be.Uint16(b[6:]))
	return g, nil
}
