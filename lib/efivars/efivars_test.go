package efivars

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// set writes a variable as efivarfs shows it.
func set(t testing.TB, dir, name, value string) {
	t.Helper()
	raw := []byte{6, 0, 0, 0}
	for _, u := range utf16.Encode([]rune(value)) {
		raw = append(raw, byte(u), byte(u>>8))
	}
	if err := os.WriteFile(filepath.Join(dir, name+"-"+loaderGUID), raw, 0o644); err != nil {
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
