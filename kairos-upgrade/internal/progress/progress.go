// Package progress shows a person how far a long operation is: one bar on a
// terminal, lines elsewhere, the service manager's status line; and tells
// whoever else wants to know.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// every is how often a bar, a status or an observer is renewed at most.
const every = 200 * time.Millisecond

// Snapshot is how far an operation is.
type Snapshot = report.Progress

// Reporter reports phases of an operation, each with an amount of bytes that
// may be unknown (0). All methods may be used by several goroutines, and on a
// nil *Reporter.
type Reporter struct {
	mu       sync.Mutex
	out      io.Writer
	prefix   string
	terminal *screen // redraw one line, if not nil
	lines    bool    // print lines
	now      func() time.Time
	observe  func(Snapshot)
	across   func(Step) // of a Reporter in another process; nil of others

	state   Snapshot // Done and Total without the phases before
	before  int64    // bytes of the phases before
	rate    rate
	shown   time.Time
	percent int64 // of the last line or status
}

// New returns a Reporter for a program. A quiet one only tells the service
// manager, and its observer.
func New(out io.Writer, program string, quiet bool) *Reporter {
	r := &Reporter{out: out, prefix: program + ": ", lines: !quiet, now: time.Now}
	if f, ok := out.(*os.File); ok && !quiet && os.Getenv("TERM") != "dumb" && terminal.Is(f) {
		r.terminal, r.lines = &screen{out: f, width: func() int { return widthOf(f) }}, false
	}
	if logline.UnderSystemd() {
		r.prefix = "<6>"
	}
	return r
}

// Step is what a Reporter in a process tells that of another: how far a phase is.
type Step struct {
	Begins   bool   `json:"begins,omitempty"` // the phase does
	Phase    string `json:"phase"`
	Done     int64  `json:"done"`  // bytes of the phase
	Total    int64  `json:"total"` // 0: unknown
	Reused   int64  `json:"reused,omitempty"`
	ReusedOf int64  `json:"reused_of,omitempty"`
}

// maxStep leaves room to calculate with: 64 PiB.
const maxStep = 1 << 56

// Valid reports whether its numbers are some that Take can take.
func (s Step) Valid() bool {
	for _, n := range []int64{s.Done, s.Total, s.Reused, s.ReusedOf} {
		if n < 0 || n > maxStep {
			return false
		}
	}
	return len(s.Phase) <= 4096
}

// Across returns a Reporter that prints nothing, and has tell hand what it is
// told to Take in another process, at most five times a second within a phase.
func Across(tell func(Step)) *Reporter {
	return &Reporter{out: io.Discard, now: time.Now, across: tell}
}

// Take takes over a step.
func (r *Reporter) Take(s Step) {
	if r == nil {
		return
	}
	if s.Begins {
		r.Phase(s.Phase, s.Total)
	} else {
		r.Set(s.Done, s.Total)
	}
	if s.ReusedOf > 0 {
		r.Reused(s.Reused, s.ReusedOf)
	}
}

// Observe makes the Reporter tell f how far it is: at each phase, at each line
// of the log, and in between at most five times a second. f must not call the
// Reporter.
func (r *Reporter) Observe(f func(Snapshot)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observe = f
}

// Phase begins a phase of total bytes, 0 when unknown, and ends the one before.
func (r *Reporter) Phase(name string, total int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.across != nil && r.state.Phase != "" {
		r.notify(false) // its end
	}
	r.before += r.state.Done
	r.state.Phase, r.state.Done, r.state.Total, r.percent = name, 0, max(0, total), -1
	r.rate.restart(r.now())
	r.notify(true)
	switch {
	case r.terminal != nil:
		r.terminal.draw(r.prefix, r.snapshot())
	case r.lines && total > 0:
		terminal.Fprintf(r.out, "%s%s (%s)\n", r.prefix, name, terminal.Bytes(total))
	case r.lines:
		terminal.Fprintf(r.out, "%s%s\n", r.prefix, name)
	}
}

// Add says that n more bytes of the phase are done.
func (r *Reporter) Add(n int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Done += n
	r.advance()
}

// Set says how many bytes of the phase are done, and how many it has.
func (r *Reporter) Set(done, total int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Done, r.state.Total = done, max(0, total)
	r.advance()
}

// Reused says that bytes of of bytes, of whatever the operation is about, were
// here already and cost nothing. The last call counts.
func (r *Reporter) Reused(bytes, of int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Reused, r.state.ReusedOf = bytes, of
	r.advance()
}

// Show takes over how far an operation of somebody else is.
func (r *Reporter) Show(s Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begins := s.Phase != r.state.Phase
	r.state, r.before = s, 0
	r.rate.given(s.Rate)
	switch {
	case r.terminal != nil:
		r.terminal.draw(r.prefix, s)
	case r.lines && begins:
		terminal.Fprintf(r.out, "%s%s\n", r.prefix, Text(s))
	case r.lines:
		r.line(s)
	}
}

func (r *Reporter) snapshot() Snapshot {
	s := r.state
	s.Done += r.before
	if s.Total > 0 || r.before > 0 {
		s.Total = max(s.Total, r.state.Done) + r.before
	}
	s.Rate = r.rate.perSecond()
	if left := s.Total - s.Done; s.Rate > 0 && left > 0 {
		s.ETA = (time.Duration(float64(left)/float64(s.Rate)*float64(time.Second)) + time.Second/2).Truncate(time.Second)
	}
	return s
}

func (r *Reporter) advance() {
	now := r.now()
	r.rate.sample(now, r.state.Done)
	if now.Sub(r.shown) < every {
		return
	}
	r.notify(false)
	s := r.snapshot()
	if r.terminal != nil {
		r.terminal.draw(r.prefix, s)
	} else if r.lines {
		r.line(s)
	}
}

// line prints a line for every tenth.
func (r *Reporter) line(s Snapshot) {
	if s.Total <= 0 {
		return
	}
	p := s.Done * 100 / s.Total
	if p/10 != max(0, r.percent)/10 && p < 100 {
		terminal.Fprintf(r.out, "%s%s\n", r.prefix, Text(s))
	}
	r.percent = p
}

// notify tells the service manager and the observer.
func (r *Reporter) notify(begins bool) {
	r.shown = r.now()
	if r.across != nil {
		r.across(Step{begins, r.state.Phase, r.state.Done, r.state.Total, r.state.Reused, r.state.ReusedOf})
		return
	}
	s := r.snapshot()
	if s.Total > 0 || begins {
		sdnotify.Status("%s", Text(s))
	}
	if r.observe != nil {
		r.observe(s)
	}
}

// Write writes lines of others, above the bar: a log goes through here.
func (r *Reporter) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.terminal != nil {
		r.terminal.erase()
	}
	r.state.Message = message(string(p), r.prefix)
	if r.observe != nil {
		r.observe(r.snapshot())
	}
	n, err := r.out.Write(p)
	if r.terminal != nil && r.state.Phase != "" {
		r.terminal.draw(r.prefix, r.snapshot())
	}
	return n, err
}

// message is a line of the log without what stands before it: the name of the
// program, or "<4>" under systemd.
func message(line, prefix string) string {
	line = strings.TrimSpace(line)
	if len(line) > 3 && line[0] == '<' && line[2] == '>' {
		return line[3:]
	}
	return strings.TrimPrefix(line, prefix)
}

// Close ends the last phase and removes the bar.
func (r *Reporter) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.terminal != nil {
		r.terminal.erase()
	}
	r.state.Phase = ""
}

// Text is "fetch: 12 MiB of 80.1 MiB (15%), 3.1 MiB/s, 22s left, 30 MiB of
// 110.1 MiB already here".
func Text(s Snapshot) string {
	text := s.Phase
	if s.Done > 0 && s.Total <= 0 {
		text += ": " + terminal.Bytes(s.Done)
	} else if s.Done > 0 {
		text += fmt.Sprintf(": %s of %s (%d%%)", terminal.Bytes(s.Done), terminal.Bytes(s.Total), min(100, s.Done*100/s.Total))
	}
	for _, part := range []string{perSecond(s), left(s), reused(s)} {
		if part != "" {
			text += ", " + part
		}
	}
	return text
}

func perSecond(s Snapshot) string {
	if s.Rate <= 0 {
		return ""
	}
	return terminal.Bytes(s.Rate) + "/s"
}

func left(s Snapshot) string {
	if s.ETA <= 0 {
		return ""
	}
	return s.ETA.String() + " left"
}

func reused(s Snapshot) string {
	if s.ReusedOf <= 0 {
		return ""
	}
	return fmt.Sprintf("%s of %s already here", terminal.Bytes(s.Reused), terminal.Bytes(s.ReusedOf))
}
