// Package progress reports the progress of work in several steps on stderr: plain
// lines, or with --json one object a line, and STATUS= for the service manager.
package progress

import (
	"fmt"
	"io"
	"time"

	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// Reporter reports steps. Its zero value with a writer is ready to use.
type Reporter struct {
	W     io.Writer
	JSON  bool
	Quiet bool
	Name  string // of the program, printed before warnings
	Steps int    // number of steps

	step int
}

// Status is the object about a step with --json.
type Status struct {
	MessageType string  `json:"message_type"` // "status"
	Step        int     `json:"step"`         // from 1
	Steps       int     `json:"steps"`
	Name        string  `json:"name"`
	Text        string  `json:"text"`
	State       string  `json:"state"`             // "started" or "done"
	Seconds     float64 `json:"seconds,omitempty"` // when done
}

// Message is the object about everything else with --json, in all programs.
type Message struct {
	MessageType string `json:"message_type"`      // "info", "warning" or "log"
	Program     string `json:"program,omitempty"` // the program that wrote the line, for a log
	Text        string `json:"text"`
}

// Step reports the start of a step and returns the function that reports its end.
func (r *Reporter) Step(name, text string) (done func()) {
	r.step++
	step, start := r.step, time.Now()
	sdnotify.Status("Step %d of %d: %s", step, r.Steps, text)
	status := Status{"status", step, r.Steps, name, text, "started", 0}
	r.emit(status, fmt.Sprintf("[%*d/%d] %s", width(r.Steps), step, r.Steps, text))
	return func() {
		took := time.Since(start)
		status.State, status.Seconds = "done", Seconds(took)
		r.emit(status, fmt.Sprintf("%*s  done in %.1f s", 2*width(r.Steps)+2, "", took.Seconds()))
	}
}

// Seconds returns a duration in seconds with three decimals at most.
func Seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// Info reports information.
func (r *Reporter) Info(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.emit(Message{"info", "", text}, text)
}

// Warn reports a warning. --quiet does not mute warnings.
func (r *Reporter) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r.JSON {
		r.object(Message{"warning", "", text})
		return
	}
	prefix := r.Name + ": "
	if logline.UnderSystemd() {
		prefix = "<4>"
	}
	terminal.Fprintf(r.W, "%swarning: %s\n", prefix, text)
}

// Line passes on a line that another program wrote.
func (r *Reporter) Line(program, line string) {
	r.emit(Message{"log", program, line}, fmt.Sprintf("%*s  %s", 2*width(r.Steps)+2, "", line))
}

func (r *Reporter) emit(object any, text string) {
	switch {
	case r.Quiet:
	case r.JSON:
		r.object(object)
	default:
		terminal.Fprintln(r.W, text)
	}
}

func (r *Reporter) object(v any) {
	if text, err := terminal.JSON(v); err == nil {
		_, _ = r.W.Write(text)
	}
}

func width(n int) int { return len(fmt.Sprint(n)) }
