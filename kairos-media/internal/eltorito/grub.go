package eltorito

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// GRUB's programs for the BIOS, as grub-mkimage(1) and its modules have them, say
// where the rest of them lies. The functions here put in where that is:
// grub-core/boot/i386/pc/{boot,diskboot,cdboot}.S, include/grub/offsets.h.

const (
	sector = 512
	// Places in the boot sector, boot.img.
	bootKernel    = 0x5c // u64: first sector of core.img
	bootDrive     = 0x64 // u8: drive to read from; 0xff: the one that the BIOS booted
	bootCodeEnd   = 0x1b8
	bootSignature = 0x1fe
	// Place in the first sector of core.img.
	coreList = 0x1f4 // u64 sector, u16 count, u16 segment: what follows that sector
	// Place in the image for El Torito, the end of cdboot.img.
	cdKernel = Block + 0x1f4 // u64: the sector of 512 bytes behind it
	// Boot information table of El Torito images, as mkisofs writes it.
	infoTable, infoEnd = 8, 64
	maxProgram         = 16 << 20
)

var errNotGRUB = errors.New("not a program of GRUB's i386-pc platform")

// MBR puts the code of boot.img into the first 440 bytes of the sector mbr, with
// core.img at byte core of the disk. Disk identifier and partition table stay.
func MBR(mbr, boot []byte, core int64) error {
	if len(mbr) != sector || len(boot) != sector || boot[bootSignature] != 0x55 || boot[bootSignature+1] != 0xaa {
		return fmt.Errorf("boot.img of %d bytes: %w", len(boot), errNotGRUB)
	}
	if core <= 0 || core%sector != 0 {
		return fmt.Errorf("core.img at byte %d", core)
	}
	copy(mbr[:bootCodeEnd], boot)
	binary.LittleEndian.PutUint64(mbr[bootKernel:], uint64(core/sector))
	mbr[bootDrive] = 0xff
	return nil
}

// Core puts its place, in bytes from the beginning of the disk, into core.img.
func Core(core []byte, at int64, room int64) error {
	if len(core) < 2*sector || len(core) > maxProgram {
		return fmt.Errorf("core.img of %d bytes: %w", len(core), errNotGRUB)
	}
	if int64(len(core)) > room || at <= 0 || at%sector != 0 {
		return fmt.Errorf("core.img of %d bytes at byte %d: there is room for %d", len(core), at, room)
	}
	list := core[coreList:]
	if count := int(binary.LittleEndian.Uint16(list[8:])); count < 1 || count > len(core)/sector+1 {
		return fmt.Errorf("core.img: %d sectors follow the first: %w", count, errNotGRUB)
	}
	binary.LittleEndian.PutUint64(list, uint64(at/sector+1))
	return nil
}

// CD puts its place into GRUB's image for El Torito, and the boot information table.
func CD(image []byte, at int64, room int64) error {
	if len(image) < cdKernel+8 || len(image) > maxProgram {
		return fmt.Errorf("El Torito image of %d bytes: %w", len(image), errNotGRUB)
	}
	if int64(len(image)) > room || at <= 0 || at%Block != 0 {
		return fmt.Errorf("El Torito image of %d bytes at byte %d: there is room for %d", len(image), at, room)
	}
	le := binary.LittleEndian
	le.PutUint64(image[cdKernel:], uint64(at/sector+5))
	var sum uint32
	for i := infoEnd; i+4 <= len(image); i += 4 {
		sum += le.Uint32(image[i:])
	}
	if rest := len(image) % 4; rest > 0 { // as if zeros followed
		var last [4]byte
		copy(last[:], image[len(image)-rest:])
		sum += le.Uint32(last[:])
	}
	table := image[infoTable:infoEnd]
	clear(table)
	le.PutUint32(table, primary)
	le.PutUint32(table[4:], uint32(at/Block))
	le.PutUint32(table[8:], uint32(len(image)))
	le.PutUint32(table[12:], sum)
	return nil
}
