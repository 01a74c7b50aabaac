// Package sdboot keeps systemd-boot itself on the EFI system partition as new
// as the deployment that has proven to boot, without a moment in which the
// firmware finds no whole boot loader.
//
// There are two paths: that of systemd, which the firmware's boot option names,
// and the fallback path, which the firmware tries when no option works (UEFI
// specification, 3.5.1.1). A new loader comes to systemd's path first, by one
// rename, and what was there is kept beside it. Only when the machine has
// booted through it, it comes to the fallback path: a firmware that refuses it
// still finds the old one there.
package sdboot

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// maxProgram bounds a boot loader, in bytes: systemd-boot has 0.1 to 0.2 MB.
const maxProgram = 4 << 20

// maxSections bounds the sections of a program; systemd-boot has 9, and the
// PE loaders of firmware refuse more than 96.
const maxSections = 96

// ErrForeign is returned for what is no systemd-boot.
var ErrForeign = errors.New("not a program of systemd-boot")

// Program is what is known of a boot loader.
type Program struct {
	Version string // "257.9-1~deb13u1"
	Signed  bool   // carries a signature, by whomever
}

// Parse reads the version of a program of systemd-boot, from its section
// .sdmagic as bootctl(1) does: "#### LoaderInfo: systemd-boot 257.9 ####".
func Parse(program []byte) (Program, error) {
	if err := sane(program); err != nil {
		return Program{}, err
	}
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return Program{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	magic := f.Section(".sdmagic")
	if magic == nil || magic.Size > 4096 {
		return Program{}, fmt.Errorf("%w: it has no version", ErrForeign)
	}
	text, err := magic.Data()
	if err != nil && !errors.Is(err, io.EOF) {
		return Program{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	_, info, _ := strings.Cut(string(text), "#### LoaderInfo: systemd-boot ")
	version, _, ok := strings.Cut(info, " ####")
	if !ok || !plain(version) {
		return Program{}, fmt.Errorf("%w: it has no version", ErrForeign)
	}
	return Program{Version: version, Signed: signed(f)}, nil
}

// sane looks at the two numbers by which a small file could make debug/pe read
// much: how many sections there are, and how many symbols; systemd 252 has 460.
func sane(program []byte) error {
	if len(program) > maxProgram {
		return fmt.Errorf("%w: larger than %d bytes", ErrForeign, maxProgram)
	}
	if len(program) < 0x40 || string(program[:2]) != "MZ" {
		return fmt.Errorf("%w: no DOS header", ErrForeign)
	}
	at := uint64(binary.LittleEndian.Uint32(program[0x3c:]))
	if at+24 > uint64(len(program)) || string(program[at:at+4]) != "PE\x00\x00" {
		return fmt.Errorf("%w: no PE header", ErrForeign)
	}
	if sections := binary.LittleEndian.Uint16(program[at+6:]); sections > maxSections {
		return fmt.Errorf("%w: %d sections", ErrForeign, sections)
	}
	if symbols := binary.LittleEndian.Uint32(program[at+16:]); symbols > 1<<16 {
		return fmt.Errorf("%w: %d symbols", ErrForeign, symbols)
	}
	return nil
}

// signed reports whether the program has a certificate table.
func signed(f *pe.File) bool {
	var table pe.DataDirectory
	switch h := f.OptionalHeader.(type) {
	case *pe.OptionalHeader64:
		table = h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]
	case *pe.OptionalHeader32:
		table = h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]
	}
	return table.Size > 0
}

// plain reports whether a version is one that can be shown.
func plain(version string) bool {
	return version != "" && len(version) < 128 && !strings.ContainsFunc(version, func(r rune) bool {
		return r >= unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' '
	})
}

// versionOf returns the version in what a boot loader says of itself:
// "systemd-boot 257.9-1".
func versionOf(info string) string {
	if version, ok := strings.CutPrefix(info, "systemd-boot "); ok && plain(version) {
		return version
	}
	return ""
}
