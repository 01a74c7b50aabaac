package fat

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/run"
)

const (
	mib = 1 << 20
	at  = 3 * mib
)

func needs(t *testing.T) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, p := range Programs {
		if !run.Has(p) {
			t.Skipf("%s is missing: packages dosfstools, mtools", p)
		}
	}
}

func makeIn(t *testing.T, m Made, contents map[string]string) Place {
	t.Helper()
	dir := t.TempDir()
	p := Place{File: filepath.Join(dir, "disk"), At: at}
	if err := errors.Join(os.WriteFile(p.File, nil, 0o644), os.Truncate(p.File, at+m.Size+400*mib)); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for name, content := range contents {
		files[name] = filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(files[name], []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Make(t.Context(), run.Runner{}, p, m, files); err != nil {
		t.Fatal(err)
	}
	return p
}

// The same files make the same bytes, whatever else is in the file that they are in.
func TestMake(t *testing.T) {
	needs(t)
	contents := map[string]string{"EFI/BOOT/BOOTX64.EFI": "program", "loader/entries/kairos-live.conf": "title\n", "a.yaml": ""}
	for _, m := range []Made{
		{Size: 16 * mib, Label: "COS_SEED", ID: 0x12345678, Bits: 16},
		{Size: 36 * mib, Label: "LIVE_ESP", ID: 0xfedcba98, Bits: 32},
	} {
		m.Time = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
		p := makeIn(t, m, contents)
		names, err := List(t.Context(), run.Runner{}, p)
		if want := []string{"EFI/BOOT/BOOTX64.EFI", "a.yaml", "loader/entries/kairos-live.conf"}; err != nil || !slices.Equal(names, want) {
			t.Errorf("%q, %v", names, err)
		}
		data, err := Read(t.Context(), run.Runner{}, p, "EFI/BOOT/BOOTX64.EFI")
		if err != nil || string(data) != "program" {
			t.Errorf("%q, %v", data, err)
		}
		disk := begin(t, p, m)
		if id, bits, err := VolumeID(disk[at:]); err != nil || id != m.ID || bits != m.Bits {
			t.Errorf("%x, %d bits, %v", id, bits, err)
		}
		if !bytes.Equal(disk[:at], make([]byte, at)) || !bytes.Equal(disk[at+m.Size:], make([]byte, mib)) {
			t.Error("something is written outside of the file system")
		}
		if other := begin(t, makeIn(t, m, contents), m); sha256.Sum256(other) != sha256.Sum256(disk) {
			t.Error("the same files make other bytes")
		}
		part := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(part, disk[at:at+m.Size], 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("fsck.vfat", "-n", part).CombinedOutput(); err != nil {
			t.Errorf("fsck.vfat: %v\n%s", err, out)
		}
	}
}

// begin reads a file up to 1 MiB behind the file system.
func begin(t *testing.T, p Place, m Made) []byte {
	t.Helper()
	f, err := os.Open(p.File)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, at+m.Size+mib)
	if _, err := io.ReadFull(f, data); err != nil {
		t.Fatal(err)
	}
	return data
}

// Drivers tell FAT16 and FAT32 apart by the number of clusters.
func TestClusters(t *testing.T) {
	for _, size := range []int64{16 * mib, 36 * mib, 64 * mib, 100 * mib, 300 * mib, 2048 * mib} {
		for bits, least := range map[int]int64{16: 4085, 32: 65525} {
			clusters := size / sector / Made{Size: size, Bits: bits}.perCluster()
			if clusters < least && size >= least*sector {
				t.Errorf("FAT%d of %d MiB has %d clusters", bits, size/mib, clusters)
			}
		}
	}
}

func TestEmpty(t *testing.T) {
	needs(t)
	p := makeIn(t, Made{Size: 16 * mib, Label: "COS_SEED", Bits: 16, Time: time.Unix(1700000000, 0)}, nil)
	if names, err := List(t.Context(), run.Runner{}, p); err != nil || len(names) > 0 {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := List(t.Context(), run.Runner{}, Place{File: p.File, At: 0}); err == nil {
		t.Error("no file system is an empty one")
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"", "a*", "a b", "-x", "../x", "::x", "a\n", "a?", "[a]"} {
		if CheckName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}
