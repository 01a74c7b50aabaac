// Package sdboottest makes what package sdboot looks at, for tests: programs
// with a version, and what a boot loader tells of itself.
package sdboottest

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/lib/efivars/efivarstest"
)

// Program returns a program with the headers and the one section that
// systemd-boot's version is read from. It boots nothing.
func Program(version string, signed bool) []byte {
	var b bytes.Buffer
	write := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	dos := make([]byte, 0x40)
	copy(dos, "MZ")
	dos[0x3c] = 0x40
	b.Write(dos)
	b.WriteString("PE\x00\x00")
	optional := pe.OptionalHeader64{Magic: 0x20b, NumberOfRvaAndSizes: 16}
	if signed {
		optional.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY] = pe.DataDirectory{VirtualAddress: 0x200, Size: 8}
	}
	magic := fmt.Sprintf("#### LoaderInfo: systemd-boot %s ####", version)
	write(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(optional))})
	write(optional)
	section := pe.SectionHeader32{SizeOfRawData: uint32(len(magic)), VirtualSize: uint32(len(magic))}
	copy(section.Name[:], ".sdmagic")
	section.PointerToRawData = uint32(b.Len() + binary.Size(section))
	write(section)
	b.WriteString(magic)
	return b.Bytes()
}

// Boot writes the EFI variables of a boot through systemd-boot of a version,
// which the firmware started from a path on the ESP.
func Boot(efivars, version, path string) error {
	for name, value := range map[string]string{
		"LoaderInfo": "systemd-boot " + version, "LoaderImageIdentifier": `\` + strings.ReplaceAll(path, "/", `\`),
	} {
		if err := efivarstest.Set(efivars, name, value+"\x00"); err != nil {
			return err
		}
	}
	return nil
}
