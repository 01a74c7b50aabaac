// Package efivars reads the EFI variables by which the boot loader passes information
// to the operating system: the Boot Loader Interface
// (https://systemd.io/BOOT_LOADER_INTERFACE/).
//
// It reads efivarfs directly: four bytes of attributes, then the value. The existing
// EFI libraries also parse certificates and would add a megabyte to programs of the
// initrd.
package efivars

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"github.com/kairos-io/toolkit/lib/bounded"
)

// Vendor GUIDs of the Boot Loader Interface and of UEFI's own variables.
const (
	loaderGUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// maxSize is how many bytes of a variable are read at most, since the firmware is not
// trusted.
const maxSize = 64 << 10

// ErrNotSet is returned for a variable that does not exist, also on machines
// without EFI.
var ErrNotSet = errors.New("EFI variable not set")

// Vars reads variables from a mounted efivarfs.
type Vars struct{ dir string }

// System returns the variables of this machine.
func System() Vars { return At("/sys/firmware/efi/efivars") }

// At returns the variables of an efivarfs mounted at dir.
func At(dir string) Vars { return Vars{dir} }

// DevicePartUUID returns the GPT partition UUID, in lower case, of the partition from
// which the boot loader was started.
func (v Vars) DevicePartUUID() (string, error) {
	s, err := v.text("LoaderDevicePartUUID")
	return strings.ToLower(s), err
}

// EntrySelected returns the id of the boot entry of this boot. It is stale after kexec
// and soft-reboot.
func (v Vars) EntrySelected() (string, error) { return v.text("LoaderEntrySelected") }

// BootCountPath returns the path on the ESP of the booted entry, with its counters
// after this boot was counted. ErrNotSet means that this boot was not counted.
func (v Vars) BootCountPath() (string, error) {
	s, err := v.text("LoaderBootCountPath")
	return strings.ReplaceAll(s, `\`, "/"), err
}

// Entries returns the ids of all entries in the order of the menu.
func (v Vars) Entries() ([]string, error) {
	raw, err := v.read("LoaderEntries", loaderGUID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for id := range strings.SplitSeq(decode(raw), "\x00") {
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Features of the boot loader: bits of LoaderFeatures.
const (
	FeatureBootCounting = 1 << 4  // supports boot counting in the names of entries
	FeatureType1UKI     = 1 << 16 // supports the key "uki" in entries (systemd 258)
)

// Features returns the features of the boot loader.
func (v Vars) Features() (uint64, error) {
	raw, err := v.read("LoaderFeatures", loaderGUID)
	if err != nil {
		return 0, err
	}
	if len(raw) != 8 {
		return 0, fmt.Errorf("LoaderFeatures: %d bytes, want 8", len(raw))
	}
	return binary.LittleEndian.Uint64(raw), nil
}

func (v Vars) text(name string) (string, error) {
	raw, err := v.read(name, loaderGUID)
	if err != nil {
		return "", err
	}
	s, _, _ := strings.Cut(decode(raw), "\x00")
	if s == "" {
		return "", fmt.Errorf("%s: %w", name, ErrNotSet)
	}
	return s, nil
}

// read returns the value of a variable without its attributes.
func (v Vars) read(name, guid string) ([]byte, error) {
	raw, err := bounded.File(filepath.Join(v.dir, name+"-"+guid), maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotSet)
	}
	if err != nil {
		return nil, fmt.Errorf("read EFI variable %s: %w", name, err)
	}
	if len(raw) < 4 {
		return nil, fmt.Errorf("read EFI variable %s: %d bytes, want at least 4", name, len(raw))
	}
	return raw[4:], nil
}

// decode decodes UTF-16LE. It drops an odd last byte.
func decode(raw []byte) string {
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(raw[2*i:])
	}
	return string(utf16.Decode(units))
}
