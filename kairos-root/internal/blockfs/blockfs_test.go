package blockfs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/ext4"

	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
)

// mkfs makes a file system image of some MiB, or skips where the program is missing.
func mkfs(t *testing.T, size int64, argv ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	need(t, argv[0])
	if out, err := exec.Command(argv[0], append(argv[1:], file)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", argv[0], err, out)
	}
	return file
}

func need(t *testing.T, program string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(err)
	}
}

func TestProbeExt4(t *testing.T) {
	file := mkfs(t, 8, "mkfs.ext4", "-q", "-F")
	if c, err := Probe(file); err != nil || c != (Content{Type: "ext4"}) {
		t.Errorf("got %+v, %v", c, err)
	}
	need(t, "debugfs")
	if out, err := exec.Command("debugfs", "-w", "-R", "ssv state 3", file).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	if c, err := Probe(file); err != nil || !c.Dirty {
		t.Errorf("after an error: %+v, %v", c, err)
	}
	checker := Checker{Mode: bootargs.FsckAuto, Repair: bootargs.RepairPreen, Run: Run}
	if did, err := checker.Check(t.Context(), file, Content{}); err != nil || !strings.HasPrefix(did, "repaired: ") && did != "clean" {
		t.Errorf("check: %q, %v", did, err)
	}
	if c, err := Probe(file); err != nil || c.Dirty {
		t.Errorf("after the check: %+v, %v", c, err)
	}
}

// A superblock of which one sector is old is taken from its copy, or put together
// where there is none.
func TestTornSuperblock(t *testing.T) {
	for size, want := range map[int64]ext4.Tear{64: {Backup: 8193, BlockSize: 1024}, 8: {}} {
		file := mkfs(t, size, "mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "metadata_csum")
		if c, err := Probe(file); err != nil || c.Torn != nil {
			t.Fatalf("at first: %+v, %v", c, err)
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		const written = ext4.Offset + 0x30 // the time of the last write
		if _, err := f.WriteAt([]byte("torn"), written); err != nil {
			t.Fatal(err)
		}
		f.Close()
		c, err := Probe(file)
		if err != nil || c.Torn == nil || *c.Torn != want {
			t.Fatalf("torn: %+v, %v", c, err)
		}
		checker := Checker{Mode: bootargs.FsckAuto, Repair: bootargs.RepairPreen, Run: Run}
		if !checker.Needed(c) {
			t.Error("a torn superblock needs no check")
		}
		if _, err := checker.Check(t.Context(), file, Content{}); err == nil {
			t.Error("e2fsck -p repairs it by itself: this is needed no longer")
		}
		if did, err := checker.Check(t.Context(), file, c); err != nil || did != "clean" && !strings.HasPrefix(did, "repaired: ") {
			t.Errorf("check: %q, %v", did, err)
		}
		if c, err := Probe(file); err != nil || c.Torn != nil || c.Dirty {
			t.Errorf("after the check: %+v, %v", c, err)
		}
		if did, err := checker.Check(t.Context(), file, Content{}); err != nil || did != "clean" {
			t.Errorf("second check: %q, %v", did, err)
		}
	}
}

func TestProbeVfat(t *testing.T) {
	if c, err := Probe(mkfs(t, 8, "mkfs.vfat")); err != nil || c.Type != "vfat" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestProbeOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		at    int
		magic string
		want  Content
		err   error
	}{
		"xfs": {0, "XFSB", Content{Type: "xfs"}, nil}, "btrfs": {64<<10 + 64, "_BHRfS_M", Content{Type: "btrfs"}, nil},
		"LUKS": {0, "LUKS\xba\xbe\x00\x02", Content{}, ErrLocked}, "nothing": {0, "", Content{}, nil},
		"ext4 with blocks larger than any": {
			ext4.Offset + 0x18, "\x07" + strings.Repeat("\x00", 31) + "\x53\xef", Content{Type: "ext4", Dirty: true}, nil,
		},
	} {
		device := filepath.Join(t.TempDir(), "device")
		content := make([]byte, disk.ProbeSize)
		copy(content[tc.at:], tc.magic)
		if err := os.WriteFile(device, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Probe(device)
		if c != tc.want || (err == nil) != (tc.want.Type != "") || tc.err != nil && !errors.Is(err, tc.err) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestNeeded(t *testing.T) {
	clean, dirty := Content{Type: "ext4"}, Content{Type: "ext4", Dirty: true}
	for _, tc := range []struct {
		mode    bootargs.FsckMode
		content Content
		want    bool
	}{
		{bootargs.FsckAuto, clean, false}, {bootargs.FsckAuto, dirty, true},
		{bootargs.FsckForce, clean, true}, {bootargs.FsckForce, Content{Type: "xfs"}, false},
		{bootargs.FsckSkip, dirty, false},
	} {
		if got := (Checker{Mode: tc.mode}).Needed(tc.content); got != tc.want {
			t.Errorf("%s %+v: %v", tc.mode, tc.content, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		checker Checker
		content Content
		status  int
		runErr  error
		argv    string
		did     string
		err     string
	}{
		"clean":          {Checker{}, Content{}, 0, nil, "e2fsck -p /dev/x", "clean", ""},
		"repaired":       {Checker{Mode: bootargs.FsckForce}, Content{}, 1, nil, "e2fsck -p -f /dev/x", "repaired: last", ""},
		"yes":            {Checker{Repair: bootargs.RepairYes}, Content{}, 3, nil, "e2fsck -y /dev/x", "repaired: last", ""},
		"damaged":        {Checker{Repair: bootargs.RepairNo}, Content{}, 4, nil, "e2fsck -n /dev/x", "", "the file system is damaged"},
		"failed":         {Checker{}, Content{}, 8, nil, "e2fsck -p /dev/x", "", "ended with 8: last"},
		"no e2fsck":      {Checker{}, Content{}, -1, exec.ErrNotFound, "e2fsck -p /dev/x", "e2fsck is not in the initrd", ""},
		"torn":           {Checker{}, Content{Torn: &ext4.Tear{Backup: 32768, BlockSize: 4096}}, 1, nil, "e2fsck -p -b 32768 -B 4096 /dev/x", "repaired: last", ""},
		"torn, as it is": {Checker{Repair: bootargs.RepairNo}, Content{Torn: &ext4.Tear{Backup: 32768, BlockSize: 4096}}, 8, nil, "e2fsck -n /dev/x", "", "ended with 8: last"},
		"interrupted":    {Checker{}, Content{}, -1, context.Canceled, "e2fsck -p /dev/x", "", "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			var ran []string
			tc.checker.Run = func(_ context.Context, argv ...string) (string, int, error) {
				ran = slices.Clone(argv)
				return "first\nlast\n", tc.status, tc.runErr
			}
			did, err := tc.checker.Check(t.Context(), "/dev/x", tc.content)
			if strings.Join(ran, " ") != tc.argv || did != tc.did {
				t.Errorf("ran %v, did %q", ran, did)
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if errors.Is(err, ErrDamaged) && exit.HintOf(err) == "" {
				t.Error("no hint")
			}
		})
	}
}
