package device

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"

	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
)

// steps is a source of events: each Wait makes the next thing happen.
type steps []func()

func (s *steps) Wait(time.Time) error {
	if len(*s) == 0 {
		return os.ErrDeadlineExceeded
	}
	(*s)[0]()
	*s = (*s)[1:]
	return nil
}

func (s *steps) Close() error { return nil }

func finder(m mounttest.Machine, events ...func()) Finder {
	s := steps(events)
	return Finder{System: m.System(), Events: func() (Events, error) { return &s, nil }}
}

func TestFind(t *testing.T) {
	t.Run("this disk before others", func(t *testing.T) {
		m := mounttest.NewMachine(t)
		m.Add("vda", "1", "COS_GRUB")
		m.Add("vda", "2", "COS_STATE")
		m.Add("vdb", "1", "COS_GRUB")
		m.Add("vdb", "2", "COS_STATE")
		m.Variable("LoaderDevicePartUUID", mounttest.UUID("vdb1"))
		p, err := finder(m).Find(t.Context(), "COS_STATE")
		if err != nil || p.Name != "vdb2" {
			t.Errorf("got %v, %v", p, err)
		}
	})
	t.Run("this disk comes late", func(t *testing.T) {
		m := mounttest.NewMachine(t)
		m.Variable("LoaderDevicePartUUID", mounttest.UUID("vdb1"))
		m.Add("vda", "2", "COS_STATE")
		f := finder(m, func() {}, func() { m.Add("vdb", "2", "COS_STATE"); m.Add("vdb", "1", "COS_GRUB") })
		p, err := f.Find(t.Context(), "COS_STATE")
		if err != nil || p.Name != "vdb2" {
			t.Errorf("got %v, %v", p, err)
		}
	})
	t.Run("another disk when this has none", func(t *testing.T) {
		m := mounttest.NewMachine(t)
		m.Add("vda", "1", "COS_GRUB")
		m.Variable("LoaderDevicePartUUID", mounttest.UUID("vda1"))
		f := finder(m, func() { m.Add("vdc", "1", "COS_PERSISTENT") })
		p, err := f.Find(t.Context(), "COS_PERSISTENT")
		if err != nil || p.Name != "vdc1" {
			t.Errorf("got %v, %v", p, err)
		}
	})
	t.Run("ambiguous", func(t *testing.T) {
		m := mounttest.NewMachine(t)
		m.Add("vda", "2", "COS_STATE")
		m.Add("vdb", "2", "COS_STATE")
		f := finder(m, func() { t.Error("waited") })
		_, err := f.Find(t.Context(), "COS_STATE")
		if err == nil || !strings.Contains(err.Error(), "/vda2") || !strings.Contains(err.Error(), "/vdb2") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("never comes", func(t *testing.T) {
		m := mounttest.NewMachine(t)
		m.Add("vda", "1", "COS_GRUB")
		_, err := finder(m, func() {}).Find(t.Context(), "COS_STATE")
		if !errors.Is(err, disk.ErrNotFound) || !strings.Contains(exit.HintOf(err), "/vda1 COS_GRUB") {
			t.Errorf("error %v, hint %q", err, exit.HintOf(err))
		}
	})
}

func TestFindSource(t *testing.T) {
	m := mounttest.NewMachine(t)
	m.Add("vda", "3", "DATA")
	link := m.Dev("disk/by-label/MEDIA")
	f := finder(m, func() { mustWrite(t, link) })
	if got, err := f.FindSource(t.Context(), "LABEL=DATA"); err != nil || got != m.Dev("vda3") {
		t.Errorf("LABEL=DATA: %q, %v", got, err)
	}
	if got, err := f.FindSource(t.Context(), "LABEL=MEDIA"); err != nil || got != link {
		t.Errorf("LABEL=MEDIA: %q, %v", got, err)
	}
	mustWrite(t, m.Dev("vdz"))
	if got, err := f.FindSource(t.Context(), "/dev/vdz"); err != nil || got != m.Dev("vdz") {
		t.Errorf("/dev/vdz: %q, %v", got, err)
	}
	if _, err := f.FindSource(t.Context(), "UUID=ABC"); !errors.Is(err, disk.ErrNotFound) {
		t.Errorf("UUID=ABC: %v", err)
	}
}

func mustWrite(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNetlink waits on the kernel's real socket.
func TestNetlink(t *testing.T) {
	events, err := NewEvents()
	if err != nil {
		t.Skip(err)
	}
	defer events.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f := Finder{System: mounttest.NewMachine(t).System(), Events: NewEvents}
	if _, err := f.Find(ctx, "COS_STATE"); !errors.Is(err, disk.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	// Writing to a device's uevent file makes the kernel send one.
	if os.Geteuid() != 0 || os.WriteFile("/sys/class/mem/null/uevent", []byte("change"), 0) != nil {
		t.Skip("no event can be made here")
	}
	if err := events.Wait(time.Now().Add(5 * time.Second)); err != nil {
		t.Errorf("wait: %v", err)
	}
}
