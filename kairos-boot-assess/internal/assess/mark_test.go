package assess

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// entryNames returns what follows the base name of a deployment's entries.
func (m *machine) entryNames(id string) string {
	m.t.Helper()
	files, err := filepath.Glob(m.path("efi/loader/entries/kairos-" + id + "*"))
	if err != nil {
		m.t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimPrefix(filepath.Base(file), "kairos-"+id))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// A deployment that was good for weeks turns out to be bad.
func TestLateFailure(t *testing.T) {
	m := newMachine(t)
	for range 2 { // the second time, its first end is in the history already
		m.boot(fresh, "", deployment.Active)
		if b := m.check(); b.Outcome != history.Good {
			t.Fatalf("%+v", b)
		}
		b, err := m.MarkBad(t.Context(), "leaks memory")
		if err != nil || b.Outcome != history.Bad || b.Trial.Alternative != "kairos-"+good {
			t.Fatalf("%+v, %v", b, err)
		}
		if got := m.entryNames(fresh); got != "+0-1.conf" {
			t.Errorf("entry: %s", got)
		}
		m.boot(good, "", deployment.Passive)
		m.start()
		s, err := m.Status()
		if err != nil || s.LastFallback == nil || s.LastFallback.BootID != m.bootID() {
			t.Fatalf("%+v, %v", s.LastFallback, err)
		}
		if f := s.LastFallback.Fallback; f.Reason != "marked bad: leaks memory" || !f.Quarantined {
			t.Errorf("%+v", f)
		}
		if q := m.quarantineOf(digest("b")); q == nil || q.Reason != "marked bad: leaks memory" {
			t.Errorf("quarantine: %+v", q)
		}
		if err := os.RemoveAll(m.path(filepath.Join(deployment.StoreMount, "quarantine"))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMarkBeforeTheVerdictStays(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "+1-2", deployment.Active)
	if _, err := m.MarkBad(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if b := m.check(); b.Outcome != history.Bad || b.Reason != "marked bad: no reason given" || !b.Marked {
		t.Errorf("%+v", b)
	}
	if got := m.entryNames(fresh); got != "+0-3.conf" {
		t.Errorf("entry: %s", got)
	}
	if _, err := m.MarkGood(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.failingCheck("no")
	if b := m.check(); b.Outcome != history.Good || !b.Marked {
		t.Errorf("%+v", b)
	}
	if got := m.entryNames(fresh); got != ".conf" {
		t.Errorf("entry: %s", got)
	}
}

func TestRearm(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "", deployment.Active)
	m.check()
	if _, err := m.Rearm(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if got := m.entryNames(fresh); got != "+3.conf" {
		t.Errorf("entry: %s", got)
	}
	for _, tries := range []int{0, MaxTries + 1} {
		if _, err := m.Rearm(t.Context(), tries); !errors.Is(err, ErrArgument) {
			t.Errorf("%d tries: %v", tries, err)
		}
	}
}

func TestBless(t *testing.T) {
	entryFile := func(counters string) string { return "efi/loader/entries/kairos-" + fresh + counters }
	for name, test := range map[string]struct {
		booted string // counters of the entry that was booted
		before func(m *machine)
		after  string // counters in the end
	}{
		"counted":            {"+2-1", func(*machine) {}, ".conf"},
		"again":              {"+2-1", func(m *machine) { m.Bless(m.t.Context()) }, ".conf"},
		"a cut came before":  {"+2-1", func(m *machine) { m.write(entryFile(".conf"), "version 3\n") }, ".conf"},
		"never counted":      {"", func(*machine) {}, ".conf"},
		"marked bad":         {"+2-1", func(m *machine) { m.MarkBad(m.t.Context(), "x") }, "+0-3.conf"},
		"other counters now": {"+2-1", func(m *machine) { os.Rename(m.path(entryFile("+2-1.conf")), m.path(entryFile("+3.conf"))) }, "+3.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.boot(fresh, test.booted, deployment.Active)
			m.check()
			test.before(m)
			if _, _, err := m.Bless(t.Context()); err != nil {
				t.Error(err)
			}
			if got := m.entryNames(fresh); got != test.after {
				t.Errorf("entries: %s, want %s", got, test.after)
			}
		})
	}
}

func TestMarkIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(m *machine)
		do      func(m *machine) error
		want    error
	}{
		"nothing else to boot": {func(m *machine) {
			m.boot(fresh, "", deployment.Active)
			for _, base := range []string{"kairos-recovery", "kairos-" + good} {
				os.Remove(m.path("efi/loader/entries/" + base + ".conf"))
			}
		}, func(m *machine) error { _, err := m.MarkBad(m.t.Context(), "x"); return err }, ErrNoFallback},
		"on trial, before the verdict": {func(m *machine) { m.boot(fresh, "+2-1", deployment.Active) },
			func(m *machine) error { _, err := m.Rearm(m.t.Context(), 3); return err }, ErrOnTrial},
		"on trial, not blessed yet": {func(m *machine) { m.boot(fresh, "+2-1", deployment.Active); m.check() },
			func(m *machine) error { _, err := m.Rearm(m.t.Context(), 3); return err }, ErrOnTrial},
		"recovery": {func(m *machine) { m.boot(good, "", deployment.Recovery) },
			func(m *machine) error { _, err := m.MarkGood(m.t.Context()); return err }, ErrNotJudged},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			test.prepare(m)
			before := m.entryNames(fresh) + m.entryNames(good)
			if err := test.do(m); !errors.Is(err, test.want) {
				t.Errorf("error: %v", err)
			}
			if after := m.entryNames(fresh) + m.entryNames(good); after != before {
				t.Errorf("entries: %s, before %s", after, before)
			}
		})
	}
}
