package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/kairos-install/internal/target/fakemachine"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"golang.org/x/sys/unix"
)

// TestHoldWaitsForUdev: the lock is taken when whoever has it is done, and
// nobody gets it until it is released.
func TestHoldWaitsForUdev(t *testing.T) {
	device := filepath.Join(t.TempDir(), "vda")
	udev, err := os.Create(device)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(udev.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := (Hold{&deviceLock{device: device}}).Do(ctx, Host{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while udev reads the table: %v", err)
	}

	lock := &deviceLock{device: device}
	held := make(chan error)
	go func() { held <- Hold{lock}.Do(t.Context(), Host{}) }()
	udev.Close()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("somebody else gets the lock: %v", err)
	}
	if err := (Release{lock}).Do(t.Context(), Host{}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("after the release: %v", err)
	}
}

func TestAppear(t *testing.T) {
	m := fakemachine.New(t.TempDir())
	m.Disk("vda", 8192, "COS_GRUB:1024", "COS_OEM:64")
	m.Disk("vdb", 8192, "COS_GRUB:1024", "COS_STATE:64")
	m.Disk("loop0", 8192)
	host := Host{Disk: m.System().Disk}
	dev := func(name string) string { return filepath.Join(m.Dir, "dev", name) }
	for _, test := range []struct {
		name, device string
		want         layout.Partition
		err          string
	}{
		{"there", "vda", layout.Partition{Label: "COS_OEM", Node: dev("vda2"), Size: 64 << 20}, ""},
		{"on another disk", "vda", layout.Partition{Label: "COS_STATE", Node: dev("vda3"), Size: 64 << 20}, "does not see the new partition"},
		{"another size", "vda", layout.Partition{Label: "COS_OEM", Node: dev("vda2"), Size: 1 << 20}, "with 64 MiB, planned was"},
		{"another place", "vda", layout.Partition{Label: "COS_OEM", Node: dev("vda3"), Size: 64 << 20}, "is somebody else changing"},
		{"no scanning", "loop0", layout.Partition{Label: "COS_OEM", Node: dev("loop0p1"), Size: 64 << 20}, "does not see"},
	} {
		err := Appear{dev(test.device), []layout.Partition{test.want}}.Do(t.Context(), host)
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.err)
		}
		if loop := test.device == "loop0"; loop != (exit.HintOf(err) != "") {
			t.Errorf("%s: hint %q", test.name, exit.HintOf(err))
		}
	}
	if err := (Appear{dev("vda"), nil}).Do(t.Context(), Host{Disk: disk.System{Sys: t.TempDir()}}); err == nil {
		t.Error("a machine whose devices can't be listed")
	}
}

// TestNext: a firmware that has no boot option of the new ESP costs a warning, not
// the installation.
func TestNext(t *testing.T) {
	m := fakemachine.New(t.TempDir())
	m.Disk("vda", 8192, "COS_GRUB:1024")
	var warned string
	host := Host{Disk: m.System().Disk, Warn: func(format string, args ...any) { warned += fmt.Sprintf(format, args...) }}
	for node, want := range map[string]string{"vda1": "EFI variable not set; remove the medium", "vda2": "the kernel does not see"} {
		warned = ""
		if err := (Next{filepath.Join(m.Dir, "dev", node)}).Do(t.Context(), host); err != nil || !strings.Contains(warned, want) {
			t.Errorf("%s: %v, warned %q", node, err, warned)
		}
	}
}
