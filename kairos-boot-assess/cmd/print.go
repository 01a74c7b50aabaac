package cmd

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/report/boots"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// page formats a result in aligned columns.
type page struct {
	buffer bytes.Buffer
	table  *tabwriter.Writer
}

func newPage() *page {
	p := &page{}
	p.table = tabwriter.NewWriter(&p.buffer, 0, 0, 2, ' ', 0)
	return p
}

func (p *page) line(format string, args ...any) { terminal.Fprintf(p.table, format+"\n", args...) }

// field writes a name and a value.
func (p *page) field(name, format string, args ...any) {
	p.line("%-12s %s", name+":", fmt.Sprintf(format, args...))
}

func (p *page) writeTo(w io.Writer) error {
	p.table.Flush()
	for line := range strings.Lines(p.buffer.String()) {
		if _, err := terminal.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return fmt.Errorf("write result: %w", err)
		}
	}
	return nil
}

func printChecks(w io.Writer, b history.Boot) error {
	p := newPage()
	p.checks(b, "")
	if b.Outcome == history.Unjudged {
		p.line("not judged: %s", b.Reason)
	}
	return p.writeTo(w)
}

var marks = map[checks.State]string{checks.Passed: "ok", checks.Failed: "FAILED", checks.TimedOut: "TIMED OUT"}

func (p *page) checks(b history.Boot, indent string) {
	for _, r := range b.Checks {
		kind, mark, why := "wanted", marks[r.State], r.Detail
		if r.Required {
			kind = "required"
		}
		if r.Message != "" && !r.OK() {
			why += ": " + r.Message
		}
		p.line("%s%s\t%s\t%s\t%s\t%s", indent, mark, r.Name, kind, milliseconds(r.DurationMS), why)
	}
}

func printStatus(w io.Writer, s assess.Status) error {
	p := newPage()
	b := s.Boot
	p.field("boot", "%s", verdict(b))
	p.field("deployment", "%s, %s", boots.Named(b.Deployment, b.Version), b.Mode)
	if b.Reference != "" {
		p.field("image", "%s", b.Reference)
	}
	p.field("trial", "%s", trial(s))
	if len(b.Checks) > 0 {
		p.field("checks", "%d in %s, %s after the kernel started", len(b.Checks), milliseconds(b.DurationMS), milliseconds(b.UptimeMS))
	}
	p.table.Flush()
	p.checks(b, "  ")
	p.table.Flush()
	if f := s.LastFallback; f != nil {
		p.field("fallback", "%s: %s", when(f.Time), f.Fallback)
		p.trace(f.Fallback.FailedBoot)
	}
	for _, q := range s.Quarantined {
		p.field("quarantined", "%s since %s: %s", q.ManifestDigest, when(q.Time), q.Reason)
	}
	if !s.Persistent && b.Outcome != history.Unjudged {
		p.field("history", "lost at the next reboot, %s is not persistent", assess.HistoryDir)
	}
	return p.writeTo(w)
}

// shownLines is how many of the last lines of a failed boot status prints; with --json
// it prints all that are stored.
const shownLines = 5

// trace prints the traces of a failed boot.
func (p *page) trace(t *history.Trace) {
	if t == nil { // of an older version
		return
	}
	lines := func(list []string) {
		for _, line := range list[max(0, len(list)-shownLines):] {
			p.line("  %s", line)
		}
	}
	if t.BootID != "" {
		p.field("failed boot", "%s", t.BootID)
	}
	if t.NoJournal != "" {
		p.field("its journal", "not available, %s", t.NoJournal)
	} else {
		p.field("its journal", "ends with")
		lines(t.Journal)
	}
	if len(t.Kernel) > 0 {
		p.field("the kernel", "crashed; kernel log saved in %s", t.KernelFile)
		lines(t.Kernel)
	}
}

func verdict(b history.Boot) string {
	switch {
	case b.Outcome == history.Unjudged:
		return "not judged: " + b.Reason
	case b.Outcome == history.Pending && b.Running != "":
		return "pending, running check " + b.Running
	case b.Reason != "":
		return fmt.Sprintf("%s: %s", b.Outcome, b.Reason)
	}
	return string(b.Outcome)
}

// trial describes the boot counting of a boot, and its result.
func trial(s assess.Status) string {
	t := s.Boot.Trial
	if !t.Counted {
		return "no, " + t.Uncounted
	}
	this, all := t.Tries()
	switch {
	case s.EntryState == bls.Good:
		return fmt.Sprintf("passed in try %d of %d, the entry is blessed", this, all)
	case s.Boot.Outcome == history.Good && s.EntryState != "":
		return fmt.Sprintf("try %d of %d, the entry is not blessed yet", this, all)
	}
	return fmt.Sprintf("try %d of %d", this, all)
}

func printHistory(w io.Writer, r boots.History) error {
	p := newPage()
	p.line("STARTED\tDEPLOYMENT\tTRY\tVERDICT\tREASON")
	fallbacks := r.Fallbacks
	for _, b := range r.Boots {
		for len(fallbacks) > 0 && !fallbacks[0].Time.Before(b.Started) {
			p.fallback(fallbacks[0])
			fallbacks = fallbacks[1:]
		}
		try := "-"
		if this, all := b.Trial.Tries(); b.Trial.Counted {
			try = fmt.Sprintf("%d/%d", this, all)
		}
		p.line("%s\t%s\t%s\t%s\t%s", when(b.Started), boots.Named(b.Deployment, b.Version), try, b.Outcome, b.Reason)
	}
	if !r.Persistent {
		p.line("(lost at the next reboot: %s is not persistent)", assess.HistoryDir)
	}
	return p.writeTo(w)
}

func (p *page) fallback(e history.Event) {
	f := e.Fallback
	p.line("%s\t%s\t-\tfallback\t%s", when(e.Time), boots.Named(f.From, f.FromVersion), f)
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

func milliseconds(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= 10*time.Second {
		d = d.Round(100 * time.Millisecond)
	}
	return d.String()
}
