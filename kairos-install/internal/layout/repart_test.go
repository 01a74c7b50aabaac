package layout

// These tests run the real systemd-repart on files. They cannot show that a
// kernel finds the partitions, nor that firmware reads the ESP: the end-to-end
// tests do.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/run"
	"golang.org/x/sys/unix"
)

// realTools puts the programs of Debian 13 into PATH: those of the tests'
// tools root, or the host's where they are new enough.
func realTools(t *testing.T) {
	t.Helper()
	out, _ := exec.Command("systemd-repart", "--help").Output()
	if strings.Contains(string(out), "--offline") {
		return
	}
	tools, err := filepath.Abs("../../../tests/tools")
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(tools, "systemd-repart", "--version").Run(); err != nil {
		t.Skip("no systemd-repart of version 254 or later: run tests/setup")
	}
	bin := t.TempDir()
	for _, program := range []string{"systemd-repart", "sfdisk", "blkid", "tune2fs", "dumpe2fs"} {
		script := fmt.Sprintf("#!/bin/sh\nexec %s %s \"$@\"\n", tools, program)
		if err := os.WriteFile(filepath.Join(bin, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// shipped returns a Repart with the shipped definitions and what an image of a
// size asks for.
func shipped(t *testing.T, image Image, o Overrides, first ...string) Repart {
	t.Helper()
	definitions, err := filepath.Abs("../../../units/repart.d")
	if err != nil {
		t.Fatal(err)
	}
	sizes := t.TempDir()
	if err := WriteDropins(sizes, For(image), o); err != nil {
		t.Fatal(err)
	}
	return Repart{Definitions: append(first, definitions, sizes)}
}

func sparse(t *testing.T, size int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

var debian = Image{Bytes: 400 * mib, BootBytes: 60 * mib}

// TestShippedDefinitions plans disks of many sizes and shows what the tables
// look like.
func TestShippedDefinitions(t *testing.T) {
	realTools(t)
	r := shipped(t, debian, Overrides{})
	for _, test := range []struct {
		disk                        int64
		recovery, state, persistent int64 // MiB, rounded down
	}{
		{4 * gib, 800, 1728, 478},
		{8 * gib, 800, 2100, 4201},
		{16 * gib, 955, 4779, 9559},
		{64 * gib, 1568, 8192, 54686},
		{1024 * gib, 1568, 8192, 1037726},
	} {
		table, err := r.Plan(t.Context(), sparse(t, test.disk), test.disk)
		if err != nil {
			t.Fatalf("%d GiB: %v", test.disk/gib, err)
		}
		if err := table.Check(For(debian)); err != nil {
			t.Errorf("%d GiB: %v", test.disk/gib, err)
		}
		got := map[string]int64{}
		for _, p := range table.Partitions {
			got[p.Label] = p.Size / mib
		}
		want := map[string]int64{"COS_GRUB": 1024, "COS_OEM": 64, "COS_RECOVERY": test.recovery, "COS_STATE": test.state, "COS_PERSISTENT": test.persistent}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%d GiB:\n got %v\nwant %v", test.disk/gib, got, want)
		}
	}
}

func TestMinimumIsEnoughAndNeeded(t *testing.T) {
	realTools(t)
	r := shipped(t, debian, Overrides{})
	need, err := r.Minimum(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(need.Sum())
	if need.Size > 4*gib {
		t.Errorf("the smallest disk for %d MiB has %d MiB", debian.Bytes/mib, need.Size/mib)
	}
	if _, err := r.Plan(t.Context(), sparse(t, need.Size), need.Size); err != nil {
		t.Errorf("on the smallest disk: %v", err)
	}
	_, err = r.Plan(t.Context(), sparse(t, need.Size-mib), need.Size-mib)
	if failed := (*run.Error)(nil); !errors.As(err, &failed) || !strings.Contains(err.Error(), "Can't fit") {
		t.Errorf("on a smaller disk: %v", err)
	}
}

func TestSiteOverrides(t *testing.T) {
	realTools(t)
	site := t.TempDir()
	write := func(name, content string) {
		file := filepath.Join(site, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("20-oem.conf", "[Partition]\nType=linux-generic\nLabel=COS_OEM\nFormat=ext4\nSizeMinBytes=200M\nSizeMaxBytes=200M\n")
	write("40-state.conf.d/90-site.conf", "[Partition]\nSizeMinBytes=3G\nSizeMaxBytes=3G\n")
	write("60-data.conf", "[Partition]\nType=linux-generic\nLabel=DATA\nFormat=ext4\nSizeMinBytes=500M\nSizeMaxBytes=500M\n")
	r := shipped(t, debian, Overrides{Recovery: Override{Size: 2 * gib}, Extra: []Extra{{Name: "EXTRA", Size: gib, Format: "ext4"}}}, site)
	table, err := r.Plan(t.Context(), sparse(t, 16*gib), 16*gib)
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]int64{
		"COS_OEM": 200 * mib, "COS_STATE": 3 * gib, "DATA": 500 * mib, "COS_RECOVERY": 2 * gib, "EXTRA": gib,
	} {
		if p, ok := table.Find(label); !ok || p.Size != want {
			t.Errorf("%s: %d MiB (there: %v), want %d MiB", label, p.Size/mib, ok, want/mib)
		}
	}

	// A site that makes a store too small for the image is told so.
	write("40-state.conf.d/90-site.conf", "[Partition]\nSizeMinBytes=1G\nSizeMaxBytes=1G\n")
	table, err = r.Plan(t.Context(), sparse(t, 16*gib), 16*gib)
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Check(For(debian)); err == nil || !strings.Contains(err.Error(), "COS_STATE would have 1 GiB") {
		t.Errorf("too small a store: %v", err)
	}

	// So is one that masks a partition.
	if err := os.Symlink("/dev/null", filepath.Join(site, "30-recovery.conf")); err != nil {
		t.Fatal(err)
	}
	table, err = r.Plan(t.Context(), sparse(t, 16*gib), 16*gib)
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Check(For(debian)); err == nil || !strings.Contains(err.Error(), "no partition is labelled COS_RECOVERY") {
		t.Errorf("masked partition: %v", err)
	}
}

// TestPartition makes the partitions in a file that has another table already,
// and lets others read them: sfdisk the table, blkid and dumpe2fs the file
// systems.
func TestPartition(t *testing.T) {
	realTools(t)
	file := sparse(t, 4*gib)
	old := exec.Command("sfdisk", "--quiet", file)
	old.Stdin = strings.NewReader("label: dos\n1M,100M,83\n")
	if out, err := old.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	r := shipped(t, debian, Overrides{})
	plan, err := r.Plan(t.Context(), file, 4*gib)
	if err != nil {
		t.Fatal(err)
	}
	// A file has no udev to fight with, and maybe no loop devices either.
	argv := append(r.Argv(file), "--offline=yes")
	if _, err := (run.Runner{}).Output(t.Context(), argv...); err != nil {
		t.Fatal(err)
	}

	const espType, linuxType = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	table := readTable(t, file)
	if table.Label != "gpt" || len(table.Partitions) != 5 {
		t.Fatalf("a %s table with %d partitions", table.Label, len(table.Partitions))
	}
	for i, got := range table.Partitions {
		want := plan.Partitions[i]
		if got.Name != want.Label || got.Size*512 != want.Size || got.Start*512 != want.Offset {
			t.Errorf("partition %d is %+v, planned was %+v", i+1, got, want)
		}
		format, parttype := "ext4", linuxType
		if want.Label == "COS_GRUB" {
			format, parttype = "vfat", espType
		}
		if got.Type != parttype {
			t.Errorf("%s has the type %s", got.Name, got.Type)
		}
		found := probe(t, file, want.Offset)
		if found["TYPE"] != format || found["LABEL"] != want.Label {
			t.Errorf("%s holds %v", got.Name, found)
		}
		if format == "ext4" {
			checkExt4(t, file, want)
		}
	}
	again := sparse(t, 4*gib)
	if _, err := (run.Runner{}).Output(t.Context(), append(r.Argv(again), "--offline=yes")...); err != nil {
		t.Fatal(err)
	}
	for i, p := range readTable(t, again).Partitions {
		if p.UUID == table.Partitions[i].UUID {
			t.Errorf("%s has the same UUID on two disks", p.Name)
		}
	}
}

// checkExt4 looks at an ext4 file system, gives it the verity feature as the
// step for the stores does, and looks again.
func checkExt4(t *testing.T, file string, p Partition) {
	t.Helper()
	fs := filepath.Join(t.TempDir(), p.Label)
	extract(t, file, p, fs)
	before := superblock(t, fs)
	if before["Block size"] != "4096" || before["Filesystem volume name"] != p.Label {
		t.Errorf("%s: block size %s, label %s", p.Label, before["Block size"], before["Filesystem volume name"])
	}
	if strings.Contains(before["Filesystem features"], "verity") {
		t.Errorf("%s has verity already: %s", p.Label, before["Filesystem features"])
	}
	if _, err := (run.Runner{}).Output(t.Context(), "tune2fs", "-O", "verity", fs); err != nil {
		t.Fatal(err)
	}
	if after := superblock(t, fs); !strings.Contains(after["Filesystem features"], "verity") {
		t.Errorf("%s: features %s", p.Label, after["Filesystem features"])
	}
}

type sfdiskTable struct {
	Label      string
	Partitions []struct {
		Name, Type, UUID string
		Start, Size      int64 // sectors
	}
}

func readTable(t *testing.T, file string) sfdiskTable {
	t.Helper()
	out, err := exec.Command("sfdisk", "--json", file).Output()
	if err != nil {
		t.Fatalf("sfdisk --json: %v", err)
	}
	var answer struct{ PartitionTable sfdiskTable }
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.PartitionTable
}

func probe(t *testing.T, file string, offset int64) map[string]string {
	t.Helper()
	out, err := exec.Command("blkid", "--probe", "--offset", fmt.Sprint(offset), "--output", "export", file).Output()
	if err != nil {
		t.Fatalf("blkid at %d: %v", offset, err)
	}
	return pairs(string(out), "=")
}

func superblock(t *testing.T, fs string) map[string]string {
	t.Helper()
	out, err := exec.Command("dumpe2fs", "-h", fs).Output()
	if err != nil {
		t.Fatalf("dumpe2fs: %v: %s", err, err.(*exec.ExitError).Stderr)
	}
	return pairs(string(out), ":")
}

func pairs(s, separator string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(s) {
		if key, value, ok := strings.Cut(line, separator); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return values
}

// extract copies a partition into a file of its own, without the holes.
func extract(t *testing.T, file string, p Partition, to string) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(p.Size); err != nil {
		t.Fatal(err)
	}
	for at := p.Offset; ; {
		data, err := in.Seek(at, unix.SEEK_DATA)
		if err != nil || data >= p.Offset+p.Size {
			return // no data up to the end
		}
		if at, err = in.Seek(data, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		at = min(at, p.Offset+p.Size)
		if _, err := io.Copy(io.NewOffsetWriter(out, data-p.Offset), io.NewSectionReader(in, data, at-data)); err != nil {
			t.Fatal(err)
		}
	}
}
