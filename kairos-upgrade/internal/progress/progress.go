// Package progress shows a person how far a long operation is: a bar on a
// terminal, lines elsewhere, and the service manager's status line.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/lib/cmdline"
)

// every is how often a bar or a status is renewed at most.
const every = 200 * time.Millisecond

// Reporter reports phases of an operation, each with an amount of bytes that
// may be unknown (0). All methods may be used by several goroutines, and on a
// nil *Reporter.
type Reporter struct {
	mu     sync.Mutex
	out    io.Writer
	prefix string
	bar    bool // redraw one line
	lines  bool // print lines
	now    func() time.Time

	phase       string
	done, total int64
	started     time.Time
	shown       time.Time
	percent     int64 // of the last line or status
	drawn       int   // width of the bar that is on the screen
}

// New returns a Reporter for a program. A quiet one only tells the service
// manager.
func New(out io.Writer, program string, quiet bool) *Reporter {
	r := &Reporter{out: out, prefix: program + ": ", lines: !quiet, now: time.Now}
	if f, ok := out.(*os.File); ok && !quiet && os.Getenv("TERM") != "dumb" && cmdline.IsTerminal(f) {
		r.bar, r.lines = true, false
	}
	if cmdline.UnderSystemd() {
		r.prefix = "<6>"
	}
	return r
}

// Phase begins a phase of total bytes, 0 when unknown, and ends the one before.
func (r *Reporter) Phase(name string, total int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finishPhase()
	r.phase, r.done, r.total, r.percent = name, 0, total, 0
	r.started = r.now()
	r.shown = r.started
	cmdline.Status("%s", r.text())
	switch {
	case r.bar:
		r.draw()
	case r.lines && total > 0:
		fmt.Fprintf(r.out, "%s%s (%s)\n", r.prefix, name, Bytes(total))
	case r.lines:
		fmt.Fprintf(r.out, "%s%s\n", r.prefix, name)
	}
}

// Add says that n more bytes of the phase are done.
func (r *Reporter) Add(n int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	r.advance()
}

// Set says how many bytes of the phase are done, and how many it has.
func (r *Reporter) Set(done, total int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.total = done, total
	r.advance()
}

func (r *Reporter) advance() {
	now := r.now()
	if now.Sub(r.shown) < every {
		return
	}
	r.shown = now
	if r.bar {
		r.draw()
	}
	if r.total <= 0 {
		return
	}
	if p := r.done * 100 / r.total; p != r.percent {
		// A line for every tenth, a status for every hundredth.
		if r.lines && !r.bar && p/10 != r.percent/10 && p < 100 {
			fmt.Fprintf(r.out, "%s%s\n", r.prefix, r.text())
		}
		r.percent = p
		cmdline.Status("%s", r.text())
	}
}

// Write writes lines of others, above the bar: a log goes through here.
func (r *Reporter) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erase()
	return r.out.Write(p)
}

// Close ends the last phase and removes the bar.
func (r *Reporter) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erase()
	r.phase = ""
}

// finishPhase leaves one line of a finished phase on the screen.
func (r *Reporter) finishPhase() {
	if !r.bar || r.phase == "" {
		return
	}
	r.erase()
	line := r.prefix + r.phase
	if r.done > 0 {
		line += fmt.Sprintf(": %s in %s", Bytes(r.done), r.now().Sub(r.started).Round(100*time.Millisecond))
	}
	fmt.Fprintln(r.out, line)
}

// text is "fetch: 12.0 MiB of 80.1 MiB (15%), 3 s left".
func (r *Reporter) text() string {
	if r.done == 0 {
		return r.phase
	}
	if r.total <= 0 {
		return fmt.Sprintf("%s: %s", r.phase, Bytes(r.done))
	}
	text := fmt.Sprintf("%s: %s of %s (%d%%)", r.phase, Bytes(r.done), Bytes(r.total), min(100, r.done*100/r.total))
	if spent := r.now().Sub(r.started); spent > 2*time.Second && r.done < r.total {
		left := time.Duration(float64(spent) / float64(r.done) * float64(r.total-r.done))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

const barWidth = 24

func (r *Reporter) draw() {
	line := r.prefix + r.text()
	if r.total > 0 {
		full := int(min(r.total, r.done) * barWidth / r.total)
		line = r.prefix + "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "] " + r.text()
	}
	fmt.Fprintf(r.out, "\r%s%s", line, strings.Repeat(" ", max(0, r.drawn-len(line))))
	r.drawn = len(line)
}

func (r *Reporter) erase() {
	if r.drawn > 0 {
		fmt.Fprintf(r.out, "\r%s\r", strings.Repeat(" ", r.drawn))
		r.drawn = 0
	}
}

// Bytes writes an amount for people: "312.4 MiB".
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
