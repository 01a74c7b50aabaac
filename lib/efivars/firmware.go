package efivars

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	// The path is a node of the option's device path, in UTF-16 and in capitals
	// or not.
	path = strings.ToLower(strings.ReplaceAll(path, "/", `\`)) + "\x00"
	_, found, err := v.option(func(option []byte) bool {
		// Nodes stand at odd offsets, too.
		for _, at := range []int{6, 7} {
			if at < len(option) && strings.Contains(strings.ToLower(decode(option[at:])), path) {
				return true
			}
		}
		return false
	})
	return found, err
}

// BootNext has the firmware's next boot, and that one only, start what the first
// active boot option on a partition starts; the UUID is that of the GPT. ErrNotSet:
// there is no such option.
func (v Vars) BootNext(uuid string) error {
	number, found, err := v.option(func(option []byte) bool { return onPartition(option, uuid) })
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("boot option of partition %s: %w", uuid, ErrNotSet)
	}
	raw := binary.LittleEndian.AppendUint32(nil, persistent)
	raw = binary.LittleEndian.AppendUint16(raw, number)
	// efivarfs takes a variable in one write.
	if err := os.WriteFile(filepath.Join(v.dir, "BootNext-"+globalGUID), raw, 0o644); err != nil {
		return fmt.Errorf("write EFI variable BootNext: %w", err)
	}
	return nil
}

// persistent are the attributes of a variable that outlives the power: non-volatile,
// for boot services and for the running system.
const persistent = 1 | 2 | 4

// option returns the number of the first active option in the firmware's order that
// matches.
func (v Vars) option(matches func(option []byte) bool) (number uint16, found bool, err error) {
	order, err := v.read("BootOrder", globalGUID)
	if errors.Is(err, ErrNotSet) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	for ; len(order) >= 2; order = order[2:] {
		number := binary.LittleEndian.Uint16(order)
		option, err := v.read(fmt.Sprintf("Boot%04X", number), globalGUID)
		if errors.Is(err, ErrNotSet) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		if len(option) >= 6 && binary.LittleEndian.Uint32(option)&loadOptionActive != 0 && matches(option) {
			return number, true, nil
		}
	}
	return 0, false, nil
}

// A hard drive's node of a device path names the partition (UEFI specification,
// 10.3.5.1): type, subtype, length, number, start, size, and the UUID of the GPT.
const (
	hardDriveNode = "\x04\x01\x2a\x00"
	hardDriveSize = 42
	hardDriveUUID = 24 // offset
	hardDriveGPT  = "\x02\x02"
)

// onPartition reports whether a boot option is of a partition. Its device path stands
// behind a description of any length: the node is looked for, and 16 bytes are no
// coincidence.
func onPartition(option []byte, uuid string) bool {
	want, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil || len(want) != 16 {
		return false
	}
	slices.Reverse(want[:4]) // the first three fields are little-endian
	slices.Reverse(want[4:6])
	slices.Reverse(want[6:8])
	for {
		at := bytes.Index(option, []byte(hardDriveNode))
		if at < 0 || len(option) < at+hardDriveSize {
			return false
		}
		node := option[at:][:hardDriveSize]
		if bytes.Equal(node[hardDriveUUID:][:16], want) && string(node[40:]) == hardDriveGPT {
			return true
		}
		option = option[at+1:]
	}
}
