package gpt

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/disk"
)

func parts() []Partition {
	list := []Partition{
		{Type: ESP, UUID: ID("seed", "a"), Label: "LIVE_ESP", Size: 40 * Align},
		{Type: BIOSBoot, UUID: ID("seed", "b"), Label: "bios", Size: Align},
		{Type: LinuxGeneric, UUID: ID("seed", "c"), Label: "COS_LIVE", Size: 3 * Align},
	}
	Place(list)
	return list
}

func write(t *testing.T, list []Partition) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(Size(list)); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, Size(list), ID("seed", "disk"), list); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWrite(t *testing.T) {
	list := parts()
	file := write(t, list)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := disk.ReadGPT(f, Block)
	if err != nil || len(entries) != len(list) {
		t.Fatalf("%v, %v", entries, err)
	}
	for i, e := range entries {
		if p := list[i]; e.Number != i+1 || e.Label != p.Label || e.UUID != p.UUID || e.Start != p.Start || e.Size != p.Size {
			t.Errorf("%+v, want %+v", e, p)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The same on each machine, for ever: digests of media depend on it.
	const golden = "13e76b7680e63c7c5648e193ac5cc8198c484615564d4f33734418c10140bcab"
	if have := fmt.Sprintf("%x", sha256.Sum256(data)); have != golden {
		t.Errorf("the table is another than it was: %s", have)
	}
	if _, err := exec.LookPath("sgdisk"); err != nil {
		t.Skip("sgdisk is missing: package gdisk")
	}
	out, err := exec.Command("sgdisk", "-v", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found.") {
		t.Errorf("sgdisk -v: %v\n%s", err, out)
	}
}

func TestWriteRefuses(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := Size(parts())
	for name, change := range map[string]func(list []Partition){
		"overlap":         func(l []Partition) { l[1].Start -= Align },
		"behind the end":  func(l []Partition) { l[2].Size += Align },
		"not aligned":     func(l []Partition) { l[1].Start += Block },
		"empty":           func(l []Partition) { l[1].Size = 0 },
		"before the rest": func(l []Partition) { l[0].Start = 0 },
		"no GUID":         func(l []Partition) { l[0].Type = "esp" },
		"long label":      func(l []Partition) { l[0].Label = strings.Repeat("x", 37) },
	} {
		list := parts()
		change(list)
		if err := Write(f, size, ID("seed", "disk"), list); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
