package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
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
	for _, size := range []int{512, 4096} {
		want := []Entry{
			{1, "0a1b2c3d-4e5f-4607-9819-2a3b4c5d6e7f", LabelESP, 2048 * int64(size), 2048 * int64(size)},
			{2, "f0e1d2c3-b4a5-4697-8879-6a5b4c3d2e1f", LabelState, 4096 * int64(size), 2048 * int64(size)},
		}
		if got, err := ReadGPT(bytes.NewReader(gptImage(t, size)), int64(size)); err != nil || !slices.Equal(got, want) {
			t.Errorf("blocks of %d: %v, %v", size, got, err)
		}
	}
	for at := range gptHeaderSize { // whatever is changed in the header is seen
		image := gptImage(t, 512)
		image[512+at] ^= 1
		if got, err := ReadGPT(bytes.NewReader(image), 512); err == nil {
			t.Errorf("byte %d of the header changed: %v", at, got)
		}
	}
	image := gptImage(t, 512)
	image[1024+20] ^= 1
	if got, err := ReadGPT(bytes.NewReader(image), 512); !errors.Is(err, ErrNoGPT) {
		t.Errorf("changed entry: %v, %v", got, err)
	}
	if got, err := ReadGPT(bytes.NewReader(image[:2000]), 512); !errors.Is(err, ErrNoGPT) {
		t.Errorf("cut off: %v", got)
	}
}

// withEntries returns the beginning of that disk with a change of the first entry,
// and checksums that fit.
func withEntries(t testing.TB, change func(entry []byte)) []byte {
	image := gptImage(t, 512)
	change(image[1024:][:128])
	header := image[512:][:gptHeaderSize]
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(image[1024:][:128*128]))
	clear(header[16:20])
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	return image
}

// TestGPTEntries sees that a partition that can't be is passed over, and no
// number becomes another one in the reckoning.
func TestGPTEntries(t *testing.T) {
	for name, blocks := range map[string][2]uint64{
		"ends before it starts": {9, 8}, "beyond all": {1 << 62, 1<<64 - 1}, "overflows": {0, 1<<55 - 1}, "negative": {1 << 63, 1<<63 + 8},
	} {
		image := withEntries(t, func(e []byte) {
			binary.LittleEndian.PutUint64(e[32:], blocks[0])
			binary.LittleEndian.PutUint64(e[40:], blocks[1])
		})
		if got, err := ReadGPT(bytes.NewReader(image), 512); err != nil || len(got) != 1 || got[0].Number != 2 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
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
	f.Add(withEntries(f, func(e []byte) { copy(e[32:], "\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x7f") }))
	f.Fuzz(func(t *testing.T, head []byte) {
		image := make([]byte, 1<<16)
		copy(image, head)
		entries, err := ReadGPT(bytes.NewReader(image), 512)
		for _, e := range entries {
			if err != nil || e.Number < 1 || len(e.UUID) != 36 || e.Start < 0 || e.Size <= 0 || e.End() < e.Start || len(e.Label) > 3*36 {
				t.Errorf("%+v, %v", e, err)
			}
		}
	})
}
