package disk

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const luksUUID = "01234567-89ab-cdef-0123-456789abcdef"

func TestLUKS(t *testing.T) {
	dir := t.TempDir()
	header := make([]byte, 512)
	copy(header, "LUKS\xba\xbe\x00\x02")
	copy(header[168:], luksUUID)
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{"volume": {header, luksUUID}, "other": {make([]byte, 512), ""}, "short": {header[:100], ""}, "empty": {nil, ""}} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, test.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if have, err := LUKS(file); err != nil || have != test.want {
			t.Errorf("%s: %q, %v, want %q", name, have, err, test.want)
		}
	}
	if _, err := LUKS(filepath.Join(dir, "none")); err == nil {
		t.Error("no error where there is no device")
	}
}

func TestUnlocked(t *testing.T) {
	sys := t.TempDir()
	for name, files := range map[string][2]string{
		"dm-0": {"COS_OEM\n", "CRYPT-LUKS2-" + strings.ReplaceAll(luksUUID, "-", "") + "-COS_OEM\n"},
		"dm-1": {"plain\n", "CRYPT-PLAIN-plain\n"},
		"dm-2": {"lvm\n", "LVM-abc\n"},
		"dm-3": {"short\n", "CRYPT-LUKS2-ab\n"},
	} {
		dir := filepath.Join(sys, "class/block", name, "dm")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i, file := range []string{"name", "uuid"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(files[i]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if have := (System{Sys: sys}).Unlocked(); !maps.Equal(have, map[string]string{"COS_OEM": luksUUID}) {
		t.Errorf("unlocked: %v", have)
	}
	// The device behind it tells more, if it is that volume.
	dev := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(sys, "class/block/dm-0/slaves/vda2"), 0o755),
		os.WriteFile(filepath.Join(dev, "vda2"), luksDevice(luksJSON, luksJSON), 0o600)); err != nil {
		t.Fatal(err)
	}
	if have := (System{Sys: sys, Dev: dev}).Unlocked()["COS_OEM"]; have != volumeOf(t, luksDevice(luksJSON, luksJSON)) {
		t.Errorf("unlocked, with the device behind it: %s", have)
	}
	if err := os.WriteFile(filepath.Join(dev, "vda2"), luksHeader("LUKS\xba\xbe", 0, strings.Repeat("0", 36), luksJSON), 0o600); err != nil {
		t.Fatal(err)
	}
	if have := (System{Sys: sys, Dev: dev}).Unlocked()["COS_OEM"]; have != luksUUID {
		t.Errorf("unlocked, with another device behind it: %s", have)
	}
}
