package efivars

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// LoaderInfo returns the name and version of the boot loader of this boot:
// "systemd-boot 257.9-1".
func (v Vars) LoaderInfo() (string, error) { return v.text("LoaderInfo") }

// LoaderImage returns the path on the ESP, with slashes, of the program that
// the firmware started as boot loader.
func (v Vars) LoaderImage() (string, error) {
	s, err := v.text("LoaderImageIdentifier")
	return strings.ReplaceAll(s, `\`, "/"), err
}

// SecureBoot reports whether Secure Boot is enabled. Without EFI it is not.
func (v Vars) SecureBoot() (bool, error) {
	raw, err := v.read("SecureBoot", globalGUID)
	if errors.Is(err, ErrNotSet) {
		return false, nil
	}
	return len(raw) > 0 && raw[0] == 1, err
}

// loadOptionActive is the attribute of an active boot option, one that the firmware
// tries (UEFI specification, 3.1.3 "Load Options").
const loadOptionActive = 1

// BootOption reports whether an active boot option of the firmware starts a program of
// this path, given with slashes.
func (v Vars) BootOption(path string) (bool, error) {
	order, err := v.read("BootOrder", globalGUID)
	if errors.Is(err, ErrNotSet) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// The path is a node of the option's device path, in UTF-16 and in capitals
	// or not.
	path = strings.ToLower(strings.ReplaceAll(path, "/", `\`)) + "\x00"
	for ; len(order) >= 2; order = order[2:] {
		option, err := v.read(fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(order)), globalGUID)
		if errors.Is(err, ErrNotSet) {
			continue
		}
		if err != nil {
			return false, err
		}
		if len(option) < 6 || binary.LittleEndian.Uint32(option)&loadOptionActive == 0 {
			continue
		}
		// Nodes stand at odd offsets, too.
		for _, at := range []int{6, 7} {
			if at < len(option) && strings.Contains(strings.ToLower(decode(option[at:])), path) {
				return true, nil
			}
		}
	}
	return false, nil
}
