package progress

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/lib/terminal"
)

// reporter returns a reporter whose time is moved by hand.
func reporter(width int) (*Reporter, *bytes.Buffer, func(time.Duration)) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	r := New(&out, "prog", false)
	r.prefix = "prog: " // also where the tests run under systemd
	if width > 0 {
		r.terminal, r.lines = &screen{out: &out, width: func() int { return width }}, false
	}
	r.now = func() time.Time { return now }
	return r, &out, func(d time.Duration) { now = now.Add(d) }
}

func TestLines(t *testing.T) {
	r, out, wait := reporter(0)
	r.Phase("fetch", 100<<20)
	for range 100 {
		wait(time.Second)
		r.Add(1 << 20)
	}
	r.Phase("publish", 0)
	r.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 11 || lines[0] != "prog: fetch (100 MiB)" || lines[10] != "prog: publish" {
		t.Errorf("%d lines:\n%s", len(lines), out)
	}
	if want := "prog: fetch: 50 MiB of 100 MiB (50%), 1 MiB/s, 50s left"; lines[5] != want {
		t.Errorf("%q, want %q", lines[5], want)
	}
}

// Updates come no faster than they can be read.
func TestNotTooOften(t *testing.T) {
	r, out, wait := reporter(80)
	told := 0
	r.Observe(func(Snapshot) { told++ })
	r.Phase("fetch", 1000)
	for range 1000 {
		wait(time.Millisecond)
		r.Add(1)
	}
	if n := strings.Count(out.String(), "\r"); n > 6 {
		t.Errorf("drawn %d times in a second", n)
	}
	if told > 6 || told < 5 {
		t.Errorf("told %d times in a second", told)
	}
}

func TestBar(t *testing.T) {
	r, out, wait := reporter(200)
	r.Phase("fetch", 100<<20)
	r.Reused(30<<20, 130<<20)
	for range 4 {
		wait(time.Second)
		r.Add(10 << 20)
	}
	if want := "\r\x1b[Kprog: fetch [#########---------------]  40% 40 MiB of 100 MiB, 10 MiB/s, 6s left, 30 MiB of 130 MiB already here"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%q, want %q at the end", out, want)
	}
	out.Reset()
	fmt.Fprintln(r, "a line")
	if !strings.HasPrefix(out.String(), "\r\x1b[Ka line\n\r\x1b[Kprog: fetch") {
		t.Errorf("%q: a line stands above the bar, and the bar is drawn again", out)
	}
	out.Reset()
	r.Phase("publish", 0)
	if strings.Contains(out.String(), "\n") || !strings.Contains(out.String(), "publish") {
		t.Errorf("%q: one line for the whole operation", out)
	}
	out.Reset()
	r.Close()
	if out.String() != "\r\x1b[K" {
		t.Errorf("%q: the bar stays", out)
	}
}

// One count for the whole operation: what is done stays done when another
// phase begins.
func TestWholeOperation(t *testing.T) {
	r, _, wait := reporter(0)
	var all []Snapshot
	r.Observe(func(s Snapshot) { all = append(all, s) })
	r.Phase("look", 0)
	r.Phase("fetch", 1000)
	wait(time.Second)
	r.Set(1000, 1000)
	r.Phase("write image", 0)
	r.Phase("write boot files", 500)
	wait(time.Second)
	r.Add(500)
	fmt.Fprintln(r, "prog: warning: a line")
	var have []string
	for _, s := range all {
		have = append(have, fmt.Sprintf("%s %d/%d %s", s.Phase, s.Done, s.Total, s.Message))
	}
	want := []string{"look 0/0 ", "fetch 0/1000 ", "fetch 1000/1000 ", "write image 1000/1000 ", "write boot files 1000/1500 ", "write boot files 1500/1500 ", "write boot files 1500/1500 warning: a line"}
	if !slices.Equal(have, want) {
		t.Errorf("%q\nwant %q", have, want)
	}
}

// What is left follows the line as it is now: a fast first second is forgotten.
func TestRateFollows(t *testing.T) {
	r, _, wait := reporter(0)
	var last Snapshot
	r.Observe(func(s Snapshot) { last = s })
	r.Phase("fetch", 1000<<20)
	for range 4 {
		wait(time.Second)
		r.Add(100 << 20)
	}
	if last.Rate != 100<<20 || last.ETA != 6*time.Second {
		t.Errorf("steady: %s/s, %s left", terminal.Bytes(last.Rate), last.ETA)
	}
	for range 30 {
		wait(time.Second)
		r.Add(10 << 20)
	}
	if last.Rate < 10<<20 || last.Rate > 11<<20 {
		t.Errorf("the line has been slow for 30 s, and the rate is %s/s", terminal.Bytes(last.Rate))
	}
}

// The line fits whatever the width, and says the most important that fits.
func TestWidth(t *testing.T) {
	s := Snapshot{Phase: "fetch 3 of 5 layers", Done: 258 << 20, Total: 430 << 20, Rate: 12 << 20, ETA: 14 * time.Second, Reused: 412 << 20, ReusedOf: 842 << 20}
	for width := range 300 {
		for _, total := range []int64{0, 430 << 20} {
			s.Total = total
			if line := layout("kairos-upgrade: ", s, width); utf8.RuneCountInString(line) > width {
				t.Errorf("%d columns: %q", width, line)
			}
		}
	}
	for width, want := range map[int]string{
		60: "fetch 3 of 5 layers [########------]  60% 258 MiB of 430 MiB",
		80: "fetch 3 of 5 layers [########------]  60% 258 MiB of 430 MiB, 12 MiB/s, 14s left",
		10: "fetch 3 of",
		0:  "",
	} {
		if have := layout("kairos-upgrade: ", s, width); have != want {
			t.Errorf("%d columns: %q, want %q", width, have, want)
		}
	}
	if have := layout("", Snapshot{Phase: "look at \x1b[2Jé"}, 80); have != "look at ?[2Jé" {
		t.Errorf("%q moves the cursor", have)
	}
}

// What somebody else does looks the same.
func TestShow(t *testing.T) {
	r, out, _ := reporter(0)
	for _, done := range []int64{0, 20, 25, 50, 100} {
		r.Show(Snapshot{Phase: "fetch", Done: done, Total: 100, Rate: 10})
	}
	if want := "prog: fetch, 10 B/s\nprog: fetch: 20 B of 100 B (20%), 10 B/s\nprog: fetch: 50 B of 100 B (50%), 10 B/s\n"; out.String() != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func TestQuiet(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, "prog", true)
	r.Phase("fetch", 10)
	r.Add(10)
	r.Close()
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
	var none *Reporter
	none.Phase("x", 1)
	none.Add(1)
	none.Set(1, 1)
	none.Reused(1, 1)
	none.Close()
}
