package assess

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// fellBack has fresh fail in its only try and good booted, and returns the
// fallback that is recorded.
func fellBack(t *testing.T, m *machine) history.Event {
	t.Helper()
	m.failingCheck("no")
	m.boot(fresh, "+0-1", deployment.Active)
	m.check()
	m.fail()
	if err := os.RemoveAll(m.path("usr/lib/kairos/checks")); err != nil {
		t.Fatal(err)
	}
	m.boot(good, "", deployment.Passive)
	m.start()
	told := history.Fallbacks(m.events())
	if len(told) != 1 || told[0].Fallback.FailedBoot == nil {
		t.Fatalf("told: %+v", told)
	}
	return told[0]
}

func TestTraceOfTheFailedBoot(t *testing.T) {
	m := newMachine(t)
	dump := "sys/fs/pstore/dmesg-efi_pstore-1"
	f := fellBack(t, m)
	trace := f.Fallback.FailedBoot
	boots := history.Boots(m.events(), "")
	want := "end of boot-1, " + boots[0].Assessed.Format(time.TimeOnly)
	if trace.BootID != "boot-1" || len(trace.Journal) != 1 || trace.Journal[0] != want || trace.NoJournal != "" {
		t.Errorf("%+v, want %s", trace, want)
	}
	if trace.Kernel != nil || trace.NoKernel != "the kernel has saved no log since" {
		t.Errorf("%+v", trace)
	}
	if field := m.told[0].Fields["KAIROS_FAILED_BOOT"]; field != "boot-1" {
		t.Errorf("journal: %q", field)
	}

	// Of boots that died before they were recorded, only the kernel tells.
	m = newMachine(t)
	m.noJournal = errors.New("no such boot")
	m.boot(good, "", deployment.Passive)
	m.write(dump, "Panic#1 Part1\nOops\n")
	m.write("efi/loader/entries/kairos-"+fresh+"+0-3.conf", "sort-key kairos\n")
	m.start()
	trace = history.Fallbacks(m.events())[0].Fallback.FailedBoot
	if trace.BootID != "" || trace.NoJournal != "none of its boots was recorded" || strings.Join(trace.Kernel, "|") != "Panic#1 Part1|Oops" || trace.KernelFile != "/"+dump {
		t.Errorf("%+v", trace)
	}

	m = newMachine(t)
	m.noJournal = errors.New("no such boot")
	if trace := fellBack(t, m).Fallback.FailedBoot; trace.NoJournal != "no such boot" {
		t.Errorf("%+v", trace)
	}
}

// The hooks get the event as it is recorded, once, and their failure changes
// nothing. Interrupted, they are told again.
func TestHooksAreToldOnce(t *testing.T) {
	m := newMachine(t)
	said := m.path("said")
	m.script("usr/lib/kairos/fallback.d/10-a", "exit 1")
	m.script("etc/kairos/fallback.d/10-a", `cat >>`+said+`; echo "$KAIROS_DEPLOYMENT" >>`+said+`; exit 1`)
	m.script("usr/lib/kairos/fallback.d/20-b", "true") // does not read it
	event := fellBack(t, m)
	if _, err := os.Stat(said); err == nil {
		t.Error("told before there is a network")
	}
	if b := m.check(); b.Outcome != history.Good {
		t.Errorf("%+v", b)
	}
	want, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	once := string(want) + "\n" + good + "\n"
	if got, _ := os.ReadFile(said); string(got) != once {
		t.Errorf("told %q, want %q", got, once)
	}
	events := m.events()
	if h := events[len(events)-1].Hooks; h == nil || len(h.Results) != 2 || h.Results[0].OK() || !h.Results[1].OK() {
		t.Errorf("recorded: %+v", h)
	}
	m.check()
	if got, _ := os.ReadFile(said); string(got) != once {
		t.Errorf("told again: %q", got)
	}

	// The record of it is lost in a power cut.
	log, _ := m.history()
	data, err := os.ReadFile(log.Dir + "/" + history.FileName)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log.Dir+"/"+history.FileName, data[:strings.Index(string(data), `{"event":"hooks"`)], 0o644); err != nil {
		t.Fatal(err)
	}
	m.boot(good, "", deployment.Passive)
	m.check()
	if got, _ := os.ReadFile(said); string(got) != once+once {
		t.Errorf("told %q", got)
	}
}

// What the kernel saved before the deployment was good last is another story.
func TestOldDumpIsNotOfTheFailedBoot(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "", deployment.Active)
	m.check()
	dump := "sys/fs/pstore/dmesg-efi_pstore-1"
	m.boot(fresh, "", deployment.Active)
	m.check()
	boots, _, _, err := m.History()
	if err != nil {
		t.Fatal(err)
	}
	trace := func(at time.Time) *history.Trace {
		t.Helper()
		m.write(dump, "Panic#1 Part1\n")
		if err := os.Chtimes(m.path(dump), at, at); err != nil {
			t.Fatal(err)
		}
		return m.trace(t.Context(), deployment.Record{}, boots)
	}
	if got := trace(boots[1].Started.Add(-time.Second)); got.Kernel != nil {
		t.Errorf("%+v", got)
	}
	if got := trace(boots[1].Started.Add(time.Second)); got.Kernel == nil {
		t.Errorf("%+v", got)
	}
}
