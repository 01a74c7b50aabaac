// Package eltorito makes a disk image bootable as a CD: an ISO 9660 volume
// without files in the unused space before the first partition, and a boot catalog
// in it that names programs in partitions. "El Torito" Bootable CD-ROM Format
// Specification 1.0; ECMA-119.
package eltorito

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

// Block is the size of a CD's blocks in bytes.
const Block = 2048

// Blocks of the volume.
const (
	primary    = 16 + iota // primary volume descriptor
	bootRecord             // boot record volume descriptor
	terminator
	catalog
	root       // directory
	pathTableL // little-endian
	pathTableM // big-endian
	end
)

// End is the first byte behind the volume's blocks.
const End = end * Block

// Image says what is started: places in bytes, multiples of Block. 0: nothing.
type Image struct {
	Volume string // name, 32 characters of A-Z, 0-9 and _ at most
	Size   int64  // of the whole file, bytes
	Time   time.Time
	BIOS   int64 // GRUB's image for El Torito
	EFI    int64 // EFI system partition
}

// biosSectors is how many sectors of 512 bytes the BIOS loads: enough for the part
// of GRUB's image that loads the rest.
const biosSectors = 4

// Write writes the volume.
func Write(w io.WriterAt, im Image) error {
	switch {
	case len(im.Volume) > 32 || strings.Trim(im.Volume, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "":
		return fmt.Errorf("boot catalog: volume name %q", im.Volume)
	case im.BIOS%Block != 0 || im.EFI%Block != 0 || im.BIOS < 0 || im.EFI < 0 || im.BIOS == 0 && im.EFI == 0:
		return fmt.Errorf("boot catalog: images at %d and %d", im.BIOS, im.EFI)
	case max(im.BIOS, im.EFI) >= im.Size || im.Size/Block > 0xffffffff:
		return fmt.Errorf("boot catalog: images at %d and %d of %d bytes", im.BIOS, im.EFI, im.Size)
	}
	b := make([]byte, (end-primary)*Block)
	block := func(n int) []byte { return b[(n-primary)*Block:][:Block] }
	im.describe(block(primary))
	record := block(bootRecord)
	copy(record, "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(record[0x47:], catalog)
	copy(block(terminator), "\xffCD001\x01")
	copy(block(catalog), im.catalog())
	self := directory("\x00", im.Time)
	copy(block(root), append(self, directory("\x01", im.Time)...))
	copy(block(pathTableL), []byte{1, 0, root, 0, 0, 0, 1, 0, 0, 0})
	copy(block(pathTableM), []byte{1, 0, 0, 0, 0, root, 0, 1, 0, 0})
	if _, err := w.WriteAt(b, primary*Block); err != nil {
		return fmt.Errorf("write boot catalog: %w", err)
	}
	return nil
}

// describe fills the primary volume descriptor: ECMA-119, 8.4.
func (im Image) describe(b []byte) {
	for _, text := range []struct{ at, length int }{{8, 32}, {40, 32}, {190, 128}, {318, 128}, {446, 128}, {574, 128}, {702, 37}, {739, 37}, {776, 37}} {
		copy(b[text.at:][:text.length], strings.Repeat(" ", text.length))
	}
	copy(b, "\x01CD001\x01")
	copy(b[40:], im.Volume)
	both32(b[80:], uint32(im.Size/Block))
	both16(b[120:], 1) // volume set size
	both16(b[124:], 1) // volume sequence number
	both16(b[128:], Block)
	both32(b[132:], 10) // path table size
	binary.LittleEndian.PutUint32(b[140:], pathTableL)
	binary.BigEndian.PutUint32(b[148:], pathTableM)
	copy(b[156:], directory("\x00", im.Time))
	when := im.Time.UTC().Format("20060102150405") + "00\x00"
	none := "0000000000000000\x00"
	copy(b[813:], when+when+none+none)
	b[881] = 1 // file structure version
}

// directory returns a directory record of the root: ECMA-119, 9.1.
func directory(name string, when time.Time) []byte {
	d := make([]byte, 34)
	d[0] = byte(len(d))
	both32(d[2:], root)
	both32(d[10:], Block)
	t := when.UTC()
	copy(d[18:], []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0})
	d[25] = 2 // a directory
	both16(d[28:], 1)
	d[32] = 1
	d[33] = name[0]
	return d
}

// catalog returns the boot catalog. The default entry is the BIOS's if there is
// one: old BIOSes read no other.
func (im Image) catalog() []byte {
	const x86, efi = 0, 0xef
	le := binary.LittleEndian
	validation := func(platform byte) []byte {
		v := make([]byte, 32)
		v[0], v[1], v[30], v[31] = 1, platform, 0x55, 0xaa
		var sum uint16
		for i := 0; i < len(v); i += 2 {
			sum += le.Uint16(v[i:])
		}
		le.PutUint16(v[28:], -sum)
		return v
	}
	entry := func(at int64, sectors uint16) []byte {
		e := make([]byte, 32)
		e[0] = 0x88 // bootable, no emulation
		le.PutUint16(e[6:], sectors)
		le.PutUint32(e[8:], uint32(at/Block))
		return e
	}
	// Firmware takes a length of 0 as everything up to the end of the medium, and
	// the ESP knows its own.
	if im.BIOS == 0 {
		return append(validation(efi), entry(im.EFI, 0)...)
	}
	c := append(validation(x86), entry(im.BIOS, biosSectors)...)
	if im.EFI != 0 {
		header := make([]byte, 32)
		header[0], header[1] = 0x91, efi // the last section
		le.PutUint16(header[2:], 1)
		c = append(append(c, header...), entry(im.EFI, 0)...)
	}
	return c
}

func both16(b []byte, n uint16) {
	binary.LittleEndian.PutUint16(b, n)
	binary.BigEndian.PutUint16(b[2:], n)
}

func both32(b []byte, n uint32) {
	binary.LittleEndian.PutUint32(b, n)
	binary.BigEndian.PutUint32(b[4:], n)
}
