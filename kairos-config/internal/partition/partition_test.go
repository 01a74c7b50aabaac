package partition

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

// image is an empty disk of 128 MiB.
func image(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"systemd-repart", "blkid", "mkfs.ext4", "mkfs.ext2"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs", program)
		}
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 128<<20); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestApply is the life of a disk, with the real systemd-repart: made, as it is
// already, one more partition, grown.
func TestApply(t *testing.T) {
	disk := image(t)
	l := schema.Layout{Parts: []schema.Partition{{FSLabel: "ONE", Size: 16}, {FSLabel: "SWAP", PLabel: "swap", Filesystem: "swap", Size: 16}}}
	if _, err := Apply(t.Context(), "/", disk, l); err == nil || !strings.Contains(err.Error(), "systemd-repart") {
		t.Fatalf("a disk without a table was taken, without init_disk: %v", err)
	}
	l.Device = &schema.Device{InitDisk: true}
	// In a file a partition has no node: what systemd-repart can't format is for
	// the virtual machine.
	l.Parts[1].FSLabel = ""
	apply(t, disk, l, "partition ONE, partition swap")
	apply(t, disk, l, "")
	l.Parts = append(l.Parts, schema.Partition{PLabel: "three", Size: 16, Bootable: true})
	apply(t, disk, l, "partition three")
	before := table(t, disk)
	if len(before) != 3 || before[0].Label != "ONE" || before[0].Size != 16<<20 || before[1].Type != "swap" {
		t.Errorf("got %+v", before)
	}
	l.Parts, l.Expand = nil, &schema.Expand{Size: 40}
	apply(t, disk, l, "size of partition three")
	after := table(t, disk)
	if len(after) != 3 || after[0] != before[0] || after[2].Size != 40<<20 {
		t.Errorf("got %+v", after)
	}
	apply(t, disk, l, "")
	l.Expand.Size = 8 // never smaller
	apply(t, disk, l, "")
	l.Expand.Size = 0
	apply(t, disk, l, "size of partition three")
	if last := table(t, disk)[2].Size; last < 80<<20 {
		t.Errorf("the last partition has %d bytes", last)
	}
	apply(t, disk, l, "")
}

func apply(t *testing.T, disk string, l schema.Layout, want string) {
	t.Helper()
	changed, err := Apply(t.Context(), "/", disk, l)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(changed, ", "); got != want {
		t.Fatalf("changed %q, want %q", got, want)
	}
}

func table(t *testing.T, file string) []existing {
	t.Helper()
	parts, err := (&disk{root: "/", device: file}).repart(t.Context(), nil, "--dry-run=yes", "--empty=allow")
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// TestFileSystemIsNotOverwritten: a disk that is one file system, without any
// table.
func TestFileSystemIsNotOverwritten(t *testing.T) {
	disk := image(t)
	if out, err := exec.Command("mkfs.ext4", "-q", disk).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	l := schema.Layout{Device: &schema.Device{InitDisk: true}, Parts: []schema.Partition{{FSLabel: "X", Size: 16}}}
	if _, err := Apply(t.Context(), "/", disk, l); err == nil || !strings.Contains(err.Error(), "carries ext4: not overwritten") {
		t.Errorf("got %v", err)
	}
}
