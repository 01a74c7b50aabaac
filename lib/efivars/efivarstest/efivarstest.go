// Package efivarstest writes variables of the boot loader for tests.
package efivarstest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"unicode/utf16"
)

// LoaderGUID is the vendor GUID of the variables (Boot Loader Interface).
const LoaderGUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// Set writes a text to a variable in the format of efivarfs: four bytes of attributes,
// then UTF-16. The caller adds a terminating NUL where one is needed. Set creates the
// directory.
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
