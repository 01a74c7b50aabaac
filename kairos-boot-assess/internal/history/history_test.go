package history

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
)

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func start(boot, deployment string) Event {
	return Event{Kind: KindStart, Time: noon, BootID: boot, Start: &Start{Deployment: deployment}}
}

func verdict(boot string, o Outcome, reason string) Event {
	return Event{Kind: KindVerdict, Time: noon.Add(time.Minute), BootID: boot, Verdict: &Verdict{Outcome: o, Reason: reason}}
}

func mustAppend(t *testing.T, l Log, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func mustRead(t *testing.T, l Log) []Event {
	t.Helper()
	events, err := l.Read()
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestBootsTellEachBootOnce(t *testing.T) {
	log := Log{Dir: filepath.Join(t.TempDir(), "not/yet/there")}
	if events := mustRead(t, log); events != nil {
		t.Fatalf("a history that does not exist has events: %v", events)
	}
	mustAppend(t, log,
		start("a", "2-x"), verdict("a", Good, ""),
		start("b", "3-y"), verdict("b", Bad, "disk"),
		start("c", "3-y"),
		Event{Kind: KindFallback, Time: noon, BootID: "d", Fallback: &Fallback{From: "3-y"}},
		start("d", "2-x"),
		start("e", "2-x"), verdict("e", Bad, "late"), verdict("e", Good, ""),
	)
	events := mustRead(t, log)
	var told []string
	for _, b := range Boots(events, "d") {
		told = append(told, fmt.Sprintf("%s %s %s %q", b.BootID, b.Deployment, b.Outcome, b.Reason))
	}
	want := []string{`a 2-x good ""`, `b 3-y bad "disk"`, `c 3-y none ""`, `d 2-x pending ""`, `e 2-x good ""`}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("boots\n got %q\nwant %q", told, want)
	}
	var of []string
	for _, b := range Of(Boots(events, "d"), "3-y") {
		of = append(of, b.BootID)
	}
	if strings.Join(of, " ") != "b c" {
		t.Errorf("boots of 3-y: %q", of)
	}
	if f := Fallbacks(events); len(f) != 1 || f[0].Fallback.From != "3-y" {
		t.Errorf("fallbacks: %+v", f)
	}
}

func TestTornLineIsPassedOver(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	mustAppend(t, log, start("a", "1-x"), start("b", "1-x"))
	file := filepath.Join(log.Dir, FileName)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(file, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, log, start("after", "1-x"))
		events := mustRead(t, log)
		if len(events) == 0 || events[len(events)-1].BootID != "after" {
			t.Fatalf("cut at %d of %d: the event after the cut is lost: %+v", cut, len(whole), events)
		}
		if complete := bytes.Count(whole[:cut], []byte("\n")); len(events) < complete+1 {
			t.Fatalf("cut at %d: %d events left of %d", cut, len(events)-1, complete)
		}
	}
}

func TestFileStaysBounded(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	reason := strings.Repeat("x", 2000)
	const boots = 400
	for n := range boots {
		id := fmt.Sprint(n)
		mustAppend(t, log, start(id, "1-x"), verdict(id, Bad, reason))
	}
	info, err := os.Stat(filepath.Join(log.Dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxFile {
		t.Errorf("%d bytes, want at most %d", info.Size(), maxFile)
	}
	kept := Boots(mustRead(t, log), "")
	if last := kept[len(kept)-1]; last.BootID != fmt.Sprint(boots-1) || last.Reason != reason {
		t.Errorf("the newest boot is not the last: %+v", last)
	}
	if len(kept) < 30 || len(kept) == boots {
		t.Errorf("%d boots kept of %d", len(kept), boots)
	}
}

func TestLongVerdictLosesOutputBeforeReason(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	v := &Verdict{Outcome: Bad, Reason: "the reason"}
	for n := range 30 {
		v.Checks = append(v.Checks, checks.Result{Name: fmt.Sprint(n), Output: []string{strings.Repeat("y", 1000)}})
	}
	mustAppend(t, log, Event{Kind: KindVerdict, BootID: "a", Verdict: v})
	for n := range 3000 {
		v.Checks = append(v.Checks, checks.Result{Name: fmt.Sprint(n)})
	}
	mustAppend(t, log, Event{Kind: KindVerdict, BootID: "b", Verdict: v})
	got := Boots(mustRead(t, log), "")
	if len(got) != 2 || got[0].Reason != "the reason" || got[1].Reason != "the reason" {
		t.Fatalf("boots: %+v", got)
	}
	if len(got[0].Checks) != 30 || got[0].Checks[0].Output != nil || got[1].Checks != nil {
		t.Errorf("kept %d and %d checks", len(got[0].Checks), len(got[1].Checks))
	}
}

func TestWritersDoNotLoseEachOther(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	reason := strings.Repeat("z", 1000) // so that the file is also rewritten
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := range 50 {
				if err := log.Append(verdict(fmt.Sprintf("%d-%d", w, n), Bad, reason)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	data, err := os.ReadFile(filepath.Join(log.Dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if lines, events := bytes.Count(data, []byte("\n")), len(Parse(data)); lines != events || events < 50 {
		t.Errorf("%d lines, %d of them events", lines, events)
	}
}

func TestDirectoryInPlaceOfTheFile(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(log.Dir, FileName), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := log.Append(start("a", "1-x")); err == nil {
		t.Error("no error")
	}
	if _, err := log.Read(); err == nil {
		t.Error("no error")
	}
}

// FuzzParse: whatever is on the disk, reading it ends, what it returns can be
// folded, and an event appended to it is read back as the last.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"event":"start","boot_id":"a","start":{"deployment":"1-x","trial":{"counted":true}}}` + "\n"))
	f.Add([]byte(`{"event":"verdict","boot_id":"a","verdict":{"verdict":"bad","checks":[{}]}}` + "\n" + `{"event":"fall`))
	f.Add([]byte(`{"event":"fallback","fallback":null}` + "\n{}\nnull\n[]\n"))
	f.Add([]byte("\x00\xff\n\n\n"))
	f.Add([]byte(`{"event":"fallback","time":"2026-08-01T12:00:00Z","fallback":{"from":"3-y","failed_boot":{"journal":["a","b"]}}}`))
	f.Add([]byte(`{"event":"hooks","hooks":{"fallback":"2026-08-01T12:00:00Z","results":[{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range Boots(Parse(data), "a") {
			if b.BootID == "" {
				t.Error("a boot without an id")
			}
		}
		if events := Parse(data); len(Untold(events)) > len(Fallbacks(events)) {
			t.Error("more fallbacks untold than there are")
		}
		log := Log{Dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(log.Dir, FileName), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := log.Append(start("appended", "1-x")); err != nil {
			t.Fatal(err)
		}
		events, err := log.Read()
		if err != nil || len(events) == 0 || events[len(events)-1].BootID != "appended" {
			t.Fatalf("appended event not read back: %v", err)
		}
	})
}

func TestLongTraceLosesItsOldestLines(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	var journal []string
	for n := range 20 {
		journal = append(journal, fmt.Sprintf("%d %s", n, strings.Repeat("<", 256))) // six bytes each in JSON
	}
	f := Fallback{From: "3-y", Reason: "disk", FailedBoot: &Trace{BootID: "a", Journal: journal, Kernel: journal}}
	h := Hooks{Fallback: noon, Results: []checks.Result{{Name: "a", Output: journal}, {Name: "b", Output: journal[:1]}}}
	mustAppend(t, log, Event{Kind: KindFallback, Time: noon, Fallback: &f}, Event{Kind: KindHooks, Time: noon, Hooks: &h})
	events := mustRead(t, log)
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	trace := events[0].Fallback.FailedBoot
	if n := len(trace.Journal); n == 0 || n == 20 || trace.Journal[n-1] != journal[19] || trace.Kernel[len(trace.Kernel)-1] != journal[19] {
		t.Errorf("%d lines of the journal, %d of the kernel", n, len(trace.Kernel))
	}
	if r := events[1].Hooks.Results; len(r) != 1 || r[0].Name != "b" {
		t.Errorf("%d results", len(r))
	}
	if len(f.FailedBoot.Journal) != 20 || len(h.Results) != 2 {
		t.Error("what was appended has changed")
	}
}

func TestUntold(t *testing.T) {
	first, second := Event{Kind: KindFallback, Time: noon, Fallback: &Fallback{From: "3-y"}}, Event{Kind: KindFallback, Time: noon.Add(1), Fallback: &Fallback{From: "4-z"}}
	events := []Event{first, second, {Kind: KindHooks, Time: noon, Hooks: &Hooks{Fallback: noon}}}
	if list := Untold(events); len(list) != 1 || list[0].Fallback.From != "4-z" {
		t.Errorf("%+v", list)
	}
}

func TestOnlyRootReadsIt(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	file := filepath.Join(log.Dir, FileName)
	if err := os.WriteFile(file, nil, 0o644); err != nil { // of an older version
		t.Fatal(err)
	}
	for n := range 2 * maxFile / 10000 { // it is replaced on the way
		mustAppend(t, log, verdict("a", Bad, fmt.Sprintf("%d %s", n, strings.Repeat("x", 10000))))
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
	}
}

// A line counts when it is short enough, JSON of an event's form, and a known event: all three.
func TestLinesThatAreNoEvents(t *testing.T) {
	whole := `{"event":"start","boot_id":"a","start":{"deployment":"1-x"}}`
	long := `{"event":"start","boot_id":"a","start":{"deployment":"` + strings.Repeat("x", maxLine) + `"}}`
	wrong := `{"event":"start","boot_id":"a","start":{"deployment":"1-x"},"uptime_ms":"five"}`
	for line, want := range map[string]int{whole: 1, long: 0, wrong: 0, "{}": 0, "null": 0, `{"event":"start","boot_id":"a"}`: 0} {
		if events := Parse([]byte(line + "\n")); len(events) != want {
			t.Errorf("%d events of %.80s", len(events), line)
		}
	}
}

// What cannot be made short enough is refused as a whole.
func TestTooLongIsRefused(t *testing.T) {
	log := Log{Dir: t.TempDir()}
	long := strings.Repeat("x", maxLine)
	for _, e := range []Event{
		{Kind: KindVerdict, BootID: "a", Verdict: &Verdict{Outcome: Bad, Reason: long}},
		{Kind: KindFallback, BootID: "a", Fallback: &Fallback{From: "3-y", Reason: long, FailedBoot: &Trace{Journal: []string{"line"}}}},
	} {
		if err := log.Append(e); err == nil {
			t.Errorf("%s: was appended", e.Kind)
		}
	}
	if events := mustRead(t, log); len(events) != 0 {
		t.Errorf("%d events", len(events))
	}
}
