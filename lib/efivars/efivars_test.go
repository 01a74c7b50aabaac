package efivars

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/kairos-io/toolkit/lib/efivars/efivarstest"
)

// set writes a variable as efivarfs shows it.
func set(t testing.TB, dir, name, value string) {
	t.Helper()
	if err := efivarstest.Set(dir, name, value); err != nil {
		t.Fatal(err)
	}
}

func TestVariables(t *testing.T) {
	dir := t.TempDir()
	v := At(dir)
	if _, err := v.BootCountPath(); !errors.Is(err, ErrNotSet) {
		t.Errorf("unset variable: %v", err)
	}
	set(t, dir, "LoaderDevicePartUUID", "C3F0A2D4-0000-4000-8000-00000000ABCD\x00")
	set(t, dir, "LoaderBootCountPath", "\\loader\\entries\\kairos-2-aa+2-1.conf\x00")
	set(t, dir, "LoaderEntries", "kairos-2-aa+2-1.conf\x00kairos-1-bb.conf\x00kairos-recovery.conf\x00")
	if got, err := v.DevicePartUUID(); err != nil || got != "c3f0a2d4-0000-4000-8000-00000000abcd" {
		t.Errorf("DevicePartUUID: %q, %v", got, err)
	}
	if got, err := v.BootCountPath(); err != nil || got != "/loader/entries/kairos-2-aa+2-1.conf" {
		t.Errorf("BootCountPath: %q, %v", got, err)
	}
	if got, err := v.Entries(); err != nil || strings.Join(got, " ") != "kairos-2-aa+2-1.conf kairos-1-bb.conf kairos-recovery.conf" {
		t.Errorf("Entries: %q, %v", got, err)
	}
	set(t, dir, "LoaderEntrySelected", "")
	if _, err := v.EntrySelected(); !errors.Is(err, ErrNotSet) {
		t.Errorf("empty variable: %v", err)
	}
	os.WriteFile(filepath.Join(dir, "LoaderEntrySelected-"+loaderGUID), []byte{1}, 0o644)
	if _, err := v.EntrySelected(); err == nil {
		t.Error("a variable shorter than its attributes was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{'a', 0, 0, 0})
	f.Add([]byte{0, 0xd8, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n := len([]rune(decode(raw))); n > len(raw)/2 {
			t.Errorf("%d characters from %d bytes", n, len(raw))
		}
	})
}

// global writes one of UEFI's own variables.
func global(t testing.TB, dir, name string, value []byte) {
	t.Helper()
	raw := append([]byte{7, 0, 0, 0}, value...)
	if err := os.WriteFile(filepath.Join(dir, name+"-"+globalGUID), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// loadOption is a boot option for a path on a partition, as the firmware keeps
// it: attributes, length of the device path, description, device path.
func loadOption(attributes byte, description, path string) []byte {
	text := func(s string) (raw []byte) {
		for _, u := range utf16.Encode([]rune(s + "\x00")) {
			raw = append(raw, byte(u), byte(u>>8))
		}
		return raw
	}
	node := text(path)
	node = append([]byte{4, 4, byte(4 + len(node)), 0}, node...)
	disk := append([]byte{4, 1, 42, 0}, make([]byte, 38)...)
	list := append(append(disk, node...), 0x7f, 0xff, 4, 0)
	option := append([]byte{attributes, 0, 0, 0, byte(len(list)), 0}, text(description)...)
	return append(option, list...)
}

func TestFirmware(t *testing.T) {
	dir := t.TempDir()
	v := At(dir)
	const path = "EFI/systemd/systemd-bootx64.efi"
	has := func(want bool) {
		t.Helper()
		if got, err := v.BootOption(path); err != nil || got != want {
			t.Errorf("BootOption: %v, %v; want %v", got, err, want)
		}
	}
	has(false)
	global(t, dir, "Boot0001", loadOption(1, "Linux Boot Manager", `\EFI\systemd\systemd-bootx64.efi`))
	has(false) // not in the order
	global(t, dir, "BootOrder", []byte{3, 0, 1, 0})
	has(true)
	global(t, dir, "Boot0001", loadOption(1, "Linux Boot Manager", `\EFI\SYSTEMD\SYSTEMD-BOOTX64.EFI`))
	has(true)
	global(t, dir, "Boot0001", loadOption(0, "Linux Boot Manager", `\EFI\systemd\systemd-bootx64.efi`))
	has(false)
	global(t, dir, "Boot0001", loadOption(1, "UEFI OS", `\EFI\BOOT\BOOTX64.EFI`))
	has(false)
	global(t, dir, "Boot0001", []byte{1})
	has(false)

	for value, want := range map[string]bool{"\x01": true, "\x00": false, "": false} {
		global(t, dir, "SecureBoot", []byte(value))
		if got, err := v.SecureBoot(); err != nil || got != want {
			t.Errorf("SecureBoot of %q: %v, %v", value, got, err)
		}
	}
	set(t, dir, "LoaderImageIdentifier", `\EFI\BOOT\BOOTX64.EFI`+"\x00")
	if got, err := v.LoaderImage(); err != nil || got != "/EFI/BOOT/BOOTX64.EFI" {
		t.Errorf("LoaderImage: %q, %v", got, err)
	}
}

// TestBootNext sees that the boot option of the right disk is next, of two with the
// same loader.
func TestBootNext(t *testing.T) {
	dir := t.TempDir()
	v := At(dir)
	const path, uuid = `\EFI\systemd\systemd-bootx64.efi`, "0a1b2c3d-4e5f-4607-9819-2a3b4c5d6e7f"
	ours := loadOption(1, "Linux Boot Manager", path)
	at := strings.Index(string(ours), "\x04\x01\x2a\x00")
	copy(ours[at+24:], "\x3d\x2c\x1b\x0a\x5f\x4e\x07\x46\x98\x19\x2a\x3b\x4c\x5d\x6e\x7f\x02\x02")
	if err := v.BootNext(uuid); !errors.Is(err, ErrNotSet) {
		t.Errorf("no options: %v", err)
	}
	global(t, dir, "Boot0001", loadOption(1, "Linux Boot Manager", path))
	global(t, dir, "Boot00A2", ours)
	global(t, dir, "BootOrder", []byte{1, 0, 0xa2, 0})
	if err := v.BootNext(strings.Replace(uuid, "0a", "0b", 1)); !errors.Is(err, ErrNotSet) {
		t.Errorf("another partition: %v", err)
	}
	if err := v.BootNext(uuid); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "BootNext-"+globalGUID)); err != nil || string(got) != "\x07\x00\x00\x00\xa2\x00" {
		t.Errorf("BootNext is %q, %v", got, err)
	}
}
