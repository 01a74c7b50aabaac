package story

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kairos-io/toolkit/tests/registry"
)

// Recorder tells the steps of a story as they happen, and measures them.
type Recorder struct {
	Out   io.Writer
	Steps []Step
	node  *Node
	line  lineWriter
}

// Step is what a step has cost.
type Step struct {
	Title    string
	Duration time.Duration
	CPU      time.Duration // that the node's machine used
	Fetched  int64         // bytes that the registry sent
	Written  int64         // bytes written to the node's disk
	Failed   bool
}

// NewRecorder makes a recorder for the story of node, which may be nil.
func NewRecorder(out io.Writer, node *Node) *Recorder {
	return &Recorder{Out: out, node: node, line: lineWriter{out: out}}
}

// Follow measures what node does from now on.
func (r *Recorder) Follow(node *Node) { r.node = node }

// Step tells and measures a step.
func (r *Recorder) Step(title string, do func() error) error {
	fmt.Fprintf(r.Out, "\n▸ %s\n", title)
	start, mark, written, used := time.Now(), 0, int64(0), time.Duration(0)
	if r.node != nil {
		mark, written, used = r.node.Registry.Mark(), r.node.Written(), r.node.CPU()
	}
	err := do()
	r.line.flush()
	step := Step{Title: title, Duration: time.Since(start), Failed: err != nil}
	if r.node != nil {
		step.Fetched = registry.Fetched(r.node.Registry.Since(mark))
		step.Written = r.node.Written() - written
		step.CPU = r.node.CPU() - used
	}
	r.Steps = append(r.Steps, step)
	if err != nil {
		fmt.Fprintf(r.Out, "  failed after %.1f s\n", step.Duration.Seconds())
		return fmt.Errorf("%s: %w", title, err)
	}
	fmt.Fprintf(r.Out, "  done in %.1f s\n", step.Duration.Seconds())
	return nil
}

// Say tells a detail of the current step.
func (r *Recorder) Say(format string, args ...any) {
	r.line.flush()
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(r.Out, "  %s\n", strings.TrimRight(line, "\n"))
	}
}

// Live is where the output of a program in the guest goes, to be shown line by line.
func (r *Recorder) Live() io.Writer { return &r.line }

// Table shows what all steps have cost.
func (r *Recorder) Table() {
	table := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(r.Out, "\n")
	fmt.Fprintf(table, "seconds\tCPU seconds\tMB fetched\tMB written\t step\t\n")
	var total Step
	for _, step := range r.Steps {
		row(table, step)
		total.Duration += step.Duration
		total.CPU += step.CPU
		total.Fetched += step.Fetched
		total.Written += step.Written
	}
	total.Title = "all"
	row(table, total)
	table.Flush()
}

// row keeps the title out of the table's alignment, which is to the right.
func row(table io.Writer, step Step) {
	title := step.Title
	if step.Failed {
		title += " (failed)"
	}
	fmt.Fprintf(table, "%.1f\t%.1f\t%.2f\t%.2f\t", step.Duration.Seconds(), step.CPU.Seconds(), float64(step.Fetched)/1e6, float64(step.Written)/1e6)
	fmt.Fprintf(table, " %s\n", title)
}

// lineWriter passes on whole lines, marked as the output of a program. A carriage return begins a line
// anew, as on a terminal: only its last form is shown.
type lineWriter struct {
	out  io.Writer
	rest string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest += string(p)
	for {
		line, rest, whole := strings.Cut(w.rest, "\n")
		if !whole {
			return len(p), nil
		}
		w.rest = rest
		w.show(line)
	}
}

func (w *lineWriter) show(line string) {
	line = strings.TrimRight(line, "\r")
	line = line[strings.LastIndexByte(line, '\r')+1:]
	fmt.Fprintf(w.out, "  │ %s\n", line)
}

func (w *lineWriter) flush() {
	if w.rest != "" {
		w.show(w.rest)
		w.rest = ""
	}
}
