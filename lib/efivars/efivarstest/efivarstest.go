// Package efivarstest writes variables of the boot loader, for tests.
package efivarstest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"unicode/utf16"
)

// LoaderGUID is the vendor of the variables (Boot Loader Interface).
const LoaderGUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// Set writes a variable with a text as efivarfs shows it: four bytes of
// attributes, then UTF-16. A NUL at the end is the caller's. The directory is
// made.
func Set(dir, name, text string) error {
	raw := []byte{6, 0, 0, 0}
	for _, unit := range utf16.Encode([]rune(text)) {
		raw = binary.LittleEndian.AppendUint16(raw, unit)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+"-"+LoaderGUID), raw, 0o644)
}
