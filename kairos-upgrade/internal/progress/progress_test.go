package progress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// clock is a reporter's time, moved by hand.
func reporter(bar bool) (*Reporter, *bytes.Buffer, func(time.Duration)) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	r := New(&out, "prog", false)
	r.prefix = "prog: " // also where the tests run under systemd
	r.bar, r.lines = bar, !bar
	r.now = func() time.Time { return now }
	return r, &out, func(d time.Duration) { now = now.Add(d) }
}

func TestLines(t *testing.T) {
	r, out, wait := reporter(false)
	r.Phase("fetch", 100<<20)
	for range 100 {
		wait(time.Second)
		r.Add(1 << 20)
	}
	r.Phase("publish", 0)
	r.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 11 || lines[0] != "prog: fetch (100.0 MiB)" || lines[10] != "prog: publish" {
		t.Errorf("%d lines:\n%s", len(lines), out)
	}
	if want := "prog: fetch: 50.0 MiB of 100.0 MiB (50%), 50s left"; lines[5] != want {
		t.Errorf("%q, want %q", lines[5], want)
	}
}

// Updates come no faster than they can be read.
func TestNotTooOften(t *testing.T) {
	r, out, wait := reporter(true)
	r.Phase("fetch", 1000)
	for range 1000 {
		wait(time.Millisecond)
		r.Add(1)
	}
	if n := strings.Count(out.String(), "\r"); n > 6 {
		t.Errorf("drawn %d times in a second", n)
	}
}

func TestBar(t *testing.T) {
	r, out, wait := reporter(true)
	r.Phase("fetch", 100<<20)
	wait(time.Second)
	r.Set(50<<20, 100<<20)
	if want := "\rprog: [############------------] fetch: 50.0 MiB of 100.0 MiB (50%)"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%q, want %q at the end", out, want)
	}
	out.Reset()
	fmt.Fprintln(r, "a line")
	if !strings.HasSuffix(out.String(), "\ra line\n") || !strings.HasPrefix(out.String(), "\r  ") {
		t.Errorf("%q: the bar was not erased before the line", out)
	}
	out.Reset()
	r.Phase("publish", 0)
	if !strings.Contains(out.String(), "prog: fetch: 50.0 MiB in 1s\n") {
		t.Errorf("%q: no line of the finished phase", out)
	}
	out.Reset()
	r.Close()
	if !strings.HasSuffix(out.String(), "\r") {
		t.Errorf("%q: the bar stays", out)
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
	none.Close()
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if have := Bytes(n); have != want {
			t.Errorf("%d: %q, want %q", n, have, want)
		}
	}
}
