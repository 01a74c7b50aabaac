package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/kairos-io/toolkit/lib/efivars"
)

// machine builds a fake sysfs with disks of labelled partitions.
func machine(t *testing.T, bootUUID string, disks map[string][]string) System {
	t.Helper()
	dir := t.TempDir()
	s := System{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev"), Vars: efivars.At(dir)}
	class := filepath.Join(s.Sys, "class/block")
	must(t, os.MkdirAll(class, 0o755))
	for disk, labels := range disks {
		for i, label := range labels {
			name := fmt.Sprintf("%s%d", disk, i+1)
			real := filepath.Join(s.Sys, "devices", disk, name)
			must(t, os.MkdirAll(real, 0o755))
			uevent := fmt.Sprintf("DEVTYPE=partition\nPARTN=%d\nPARTNAME=%s\nPARTUUID=%s\n", i+1, label, uuid(disk, i+1))
			must(t, os.WriteFile(filepath.Join(real, "uevent"), []byte(uevent), 0o644))
			must(t, os.WriteFile(filepath.Join(real, "size"), []byte("2048\n"), 0o644))
			must(t, os.Symlink("../../devices/"+disk+"/"+name, filepath.Join(class, name)))
		}
		must(t, os.WriteFile(filepath.Join(s.Sys, "devices", disk, "uevent"), []byte("DEVTYPE=disk\n"), 0o644))
		must(t, os.Symlink("../../devices/"+disk, filepath.Join(class, disk)))
	}
	if bootUUID != "" {
		raw := []byte{6, 0, 0, 0}
		for _, u := range utf16.Encode([]rune(strings.ToUpper(bootUUID))) {
			raw = append(raw, byte(u), byte(u>>8))
		}
		must(t, os.WriteFile(filepath.Join(dir, "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"), raw, 0o644))
	}
	return s
}

func uuid(disk string, n int) string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", int(disk[2])<<8|n)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	both := []string{LabelESP, LabelState}
	for name, test := range map[string]struct {
		boot  string
		disks map[string][]string
		label string
		want  string // device name, or "" for an error
	}{
		"this disk of two":             {uuid("vdb", 1), map[string][]string{"vda": both, "vdb": both}, LabelState, "vdb2"},
		"other disk when only there":   {uuid("vda", 1), map[string][]string{"vda": {LabelESP}, "vdb": both}, LabelState, "vdb2"},
		"loader silent, one disk":      {"", map[string][]string{"vda": both}, LabelState, "vda2"},
		"loader silent, two disks":     {"", map[string][]string{"vda": both, "vdb": both}, LabelState, ""},
		"absent":                       {uuid("vda", 1), map[string][]string{"vda": both}, LabelOEM, ""},
		"this disk not yet discovered": {uuid("vdc", 1), map[string][]string{"vda": both}, LabelState, ""},
	} {
		p, err := machine(t, test.boot, test.disks).Find(test.label)
		if (err == nil) != (test.want != "") || p.Name != test.want {
			t.Errorf("%s: %q, %v; want %q", name, p.Name, err, test.want)
		}
		if err == nil && (p.Size != 1<<20 || p.Disk != test.want[:3] || !strings.HasSuffix(p.Path, "/dev/"+p.Name)) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if _, err := machine(t, "", nil).Find(LabelState); !errors.Is(err, ErrNotFound) {
		t.Errorf("no disks: %v", err)
	}
}
