package disk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/efivars/efivarstest"
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
		must(t, efivarstest.Set(dir, "LoaderDevicePartUUID", strings.ToUpper(bootUUID)))
	}
	return s
}

func uuid(disk string, n int) string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", int(disk[2])<<8|n)
}

func must(t testing.TB, err error) {
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

// A table that sfdisk of util-linux 2.41 wrote, with two partitions: its header
// and the entries that are not empty.
const (
	gptHeaderHex = "4546492050415254000001005c000000615e3395000000000100000000000000ff1f0000000000002200000000000000" +
		"de1f0000000000001111111122223343844455556666777702000000000000008000000080000000933460d600000000"
	gptEntriesHex = "28732ac11ff8d211ba4b00a0c93ec93b3d2c1b0a5f4e074698192a3b4c5d6e7f0008000000000000ff0f000000000000" +
		"000000000000000043004f0053005f0047005200550042000000000000000000000000000000000000000000000000000000000000000000" +
		"000000000000000000000000000000000000000000000000" +
		"af3dc60f838472478e793d69d8477de4c3d2e1f0a5b4974688796a5b4c3d2e1f0010000000000000ff17000000000000" +
		"000000000000000043004f0053005f005300540041005400450000000000000000000000000000000000000000000000000000000000000000" +
		"0000000000000000000000000000000000000000000000"
)

// gptImage returns the beginning of that disk.
func gptImage(t testing.TB, blockSize int) []byte {
	t.Helper()
	header, err := hex.DecodeString(gptHeaderHex)
	must(t, err)
	entries, err := hex.DecodeString(gptEntriesHex)
	must(t, err)
	image := make([]byte, 34*blockSize+128*128)
	copy(image[blockSize:], header)
	copy(image[2*blockSize:], entries)
	return image
}

func TestGPT(t *testing.T) {
	want := map[int]string{1: "0a1b2c3d-4e5f-4607-9819-2a3b4c5d6e7f", 2: "f0e1d2c3-b4a5-4697-8879-6a5b4c3d2e1f"}
	for _, size := range []int{512, 4096} {
		if got, err := readGPT(bytes.NewReader(gptImage(t, size)), int64(size)); err != nil || !maps.Equal(got, want) {
			t.Errorf("blocks of %d: %v, %v", size, got, err)
		}
	}
	for at := range gptHeaderSize { // whatever is changed in the header is seen
		image := gptImage(t, 512)
		image[512+at] ^= 1
		if got, err := readGPT(bytes.NewReader(image), 512); err == nil {
			t.Errorf("byte %d of the header changed: %v", at, got)
		}
	}
	image := gptImage(t, 512)
	image[1024+20] ^= 1
	if got, err := readGPT(bytes.NewReader(image), 512); !errors.Is(err, errNoGPT) {
		t.Errorf("changed entry: %v, %v", got, err)
	}
	if got, err := readGPT(bytes.NewReader(image[:2000]), 512); err == nil {
		t.Errorf("cut off: %v", got)
	}
}

// TestUUIDsFromTheDisk is a kernel that tells no UUIDs: the table does.
func TestUUIDsFromTheDisk(t *testing.T) {
	s := machine(t, "F0E1D2C3-B4A5-4697-8879-6A5B4C3D2E1F", map[string][]string{"vda": {LabelESP, LabelState}, "vdb": {LabelESP, LabelState}})
	for _, name := range []string{"vda/vda1", "vda/vda2", "vdb/vdb1", "vdb/vdb2"} {
		file := filepath.Join(s.Sys, "devices", name, "uevent")
		text, err := os.ReadFile(file)
		must(t, err)
		before, _, _ := strings.Cut(string(text), "PARTUUID")
		must(t, os.WriteFile(file, []byte(before), 0o644))
	}
	must(t, os.MkdirAll(s.Dev, 0o755))
	must(t, os.WriteFile(filepath.Join(s.Dev, "vdb"), gptImage(t, 512), 0o644))
	p, err := s.Find(LabelState)
	if err != nil || p.Name != "vdb2" || p.UUID != "f0e1d2c3-b4a5-4697-8879-6a5b4c3d2e1f" {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzGPT(f *testing.F) {
	f.Add(gptImage(f, 512)[:2048])
	f.Fuzz(func(t *testing.T, head []byte) {
		image := make([]byte, 1<<16)
		copy(image, head)
		uuids, err := readGPT(bytes.NewReader(image), 512)
		for n, uuid := range uuids {
			if err != nil || n < 1 || len(uuid) != 36 {
				t.Errorf("%d: %q, %v", n, uuid, err)
			}
		}
	})
}
