// Package diag represents problems in configs: with file, line and column, and a hint
// where there is one.
package diag

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/kairos-io/toolkit/lib/report"
)

// Pos is a position in a source. Line and Column start at 1; they are 0 where the
// source has none, as on the kernel command line.
type Pos struct {
	Source string // path of the file on the node, or another name
	Line   int
	Column int
}

// String returns "source:line:column", without unknown parts.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.Source
	case p.Column == 0:
		return p.Source + ":" + strconv.Itoa(p.Line)
	}
	return p.Source + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// FileLine returns "source:line", for people who search for a value.
func (p Pos) FileLine() string { return Pos{Source: p.Source, Line: p.Line}.String() }

// Severity is the severity of a problem.
type Severity = report.Severity

const Error, Warning = report.Error, report.Warning

// Problem is a problem in a config.
type Problem struct {
	Pos      Pos
	Severity Severity
	Message  string
	Hint     string // what to do about it, "" when unknown
	// Mistaken marks a warning that Judged turns into an error: whoever applies the
	// config still uses the rest of it, whoever validates it must not overlook the
	// mistake.
	Mistaken bool
}

// Errorf returns an error.
func Errorf(pos Pos, format string, args ...any) Problem {
	return Problem{Pos: pos, Severity: Error, Message: fmt.Sprintf(format, args...)}
}

// Warnf returns a warning.
func Warnf(pos Pos, format string, args ...any) Problem {
	return Problem{Pos: pos, Severity: Warning, Message: fmt.Sprintf(format, args...)}
}

// Mistakef returns a warning that is a mistake.
func Mistakef(pos Pos, format string, args ...any) Problem {
	p := Warnf(pos, format, args...)
	p.Mistaken = true
	return p
}

// WithHint returns the problem with what to do about it.
func (p Problem) WithHint(format string, args ...any) Problem {
	p.Hint = fmt.Sprintf(format, args...)
	return p
}

// Error returns the problem on one line: "file:line:column: error: message
// (hint)".
func (p Problem) Error() string { return p.line(string(p.Severity) + ": ") }

// Text is Error without the severity, for logs that have one of their own.
func (p Problem) Text() string { return p.line("") }

func (p Problem) line(severity string) string {
	s := p.Pos.String() + ": " + severity + p.Message
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Level is the level at which the problem is logged.
func (p Problem) Level() slog.Level {
	if p.Severity == Error {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// List is a list of problems in the order of their discovery.
type List []Problem

// Add adds a problem.
func (l *List) Add(p Problem) { *l = append(*l, p) }

// Errorf adds an error without a hint.
func (l *List) Errorf(pos Pos, format string, args ...any) { l.Add(Errorf(pos, format, args...)) }

// Warnf adds a warning without a hint.
func (l *List) Warnf(pos Pos, format string, args ...any) { l.Add(Warnf(pos, format, args...)) }

// Judged returns the problem for the validation of a config: a mistake is an error.
func (p Problem) Judged() Problem {
	if p.Mistaken {
		p.Severity = Error
	}
	return p
}

// Sort sorts the problems by their position.
func (l List) Sort() {
	slices.SortStableFunc(l, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
}

// Once removes duplicates, such as those of a value that aliases repeat. The list is
// sorted.
func (l List) Once() List {
	told := map[Problem]bool{}
	return slices.DeleteFunc(l, func(p Problem) bool {
		again := told[p]
		told[p] = true
		return again
	})
}

// Failed reports whether there is an error among the problems.
func (l List) Failed() bool {
	return slices.ContainsFunc(l, func(p Problem) bool { return p.Severity == Error })
}
