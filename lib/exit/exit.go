// Package exit holds the exit statuses of the toolkit's programs, and errors with an
// exit status, a reason for programs and a hint for people. It does not depend on the
// command line, so that any package can use it.
package exit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/kairos-io/toolkit/lib/mask"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// Exit statuses, the same in every program and documented in every man page.
const (
	OK          = 0   // done
	Failed      = 1   // failed
	Usage       = 2   // wrong usage
	Nothing     = 3   // nothing to do, no upgrade available
	Refused     = 4   // refused by policy: signature, quarantine
	NoSpace     = 5   // not enough space
	Busy        = 6   // another transaction holds the lock
	Interrupted = 130 // interrupted
)

type codeError struct {
	err  error
	code int
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// WithCode gives an error the exit status with which the program ends.
func WithCode(err error, code int) error {
	if err == nil {
		return nil
	}
	return &codeError{err, code}
}

// Usagef returns an error about wrong usage: exit status 2.
func Usagef(format string, args ...any) error {
	return WithCode(fmt.Errorf(format, args...), Usage)
}

// Code returns the exit status of an error: the outermost one that WithCode gave, 5 for
// ENOSPC and EDQUOT, 1 for every other error.
func Code(err error) int {
	var coded *codeError
	switch {
	case err == nil:
		return OK
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace
	}
	return Failed
}

type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// Hint adds a hint to an error: what a person can do about it. Print prints it on a
// line of its own.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// HintOf returns the hint of an error, or "".
func HintOf(err error) string {
	var hinted *hintError
	if errors.As(err, &hinted) {
		return hinted.hint
	}
	return ""
}

type reasonError struct {
	error
	reason string
}

func (e *reasonError) Unwrap() error { return e.error }

// Reason adds to an error a word by which programs recognize it, such as up_to_date or
// quarantined. kairos-json(5) lists them all.
func Reason(err error, reason string) error {
	if err == nil {
		return nil
	}
	return &reasonError{err, reason}
}

// reasons are the reasons of errors to which Reason added none, by exit status.
var reasons = map[int]string{
	Failed: "failed", Usage: "usage", Nothing: "nothing_to_do", Refused: "refused", NoSpace: "no_space",
	Busy: "busy", Interrupted: "interrupted",
}

// ReasonOf returns the reason of an error: the one that Reason added, or that of its
// exit status.
func ReasonOf(err error) string {
	var known *reasonError
	if errors.As(err, &known) && Code(err) != Interrupted {
		return known.reason
	}
	if reason, ok := reasons[Code(err)]; ok {
		return reason
	}
	return reasons[Failed]
}

type detailedError struct {
	err   error
	lines []string
}

func (e *detailedError) Error() string { return e.err.Error() + ": " + strings.Join(e.lines, "; ") }
func (e *detailedError) Unwrap() error { return e.err }

// Details adds lines to an error that are printed below it, such as the findings of
// another program.
func Details(err error, lines ...string) error {
	if err == nil || len(lines) == 0 {
		return err
	}
	return &detailedError{err, lines}
}

// Report is the object that a failing program prints with --json: as the last line on
// stderr and, unless it has printed a result, on stdout.
type Report struct {
	MessageType string `json:"message_type"` // always "exit_error"
	Code        int    `json:"code"`
	Reason      string `json:"reason"` // see the function Reason
	Message     string `json:"message"`
	Hint        string `json:"hint,omitempty"`
}

// Print prints an error for people, or as a Report with --json.
func Print(w io.Writer, name string, err error, asJSON bool) {
	message, hint := line(Message(err)), line(HintOf(err))
	if asJSON {
		if text, err := terminal.JSON(Report{"exit_error", Code(err), ReasonOf(err), message, hint}); err == nil {
			_, _ = w.Write(text)
		}
		return
	}
	var detailed *detailedError
	if errors.As(err, &detailed) {
		message = line(strings.Replace(Message(err), Message(detailed), Message(detailed.err)+":", 1))
	}
	if message != "" {
		fmt.Fprintf(w, "%s: %s\n", name, message)
	}
	if detailed != nil {
		for _, text := range detailed.lines {
			fmt.Fprintln(w, line(text))
		}
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// line converts a message to one line: joined errors contain newlines, and foreign text
// in them may contain control characters and secrets in URLs.
func line(message string) string {
	return terminal.Line(strings.ReplaceAll(mask.Message(strings.TrimSpace(message)), "\n", "; "))
}

// Silent returns an error that ends the program with an exit status and prints nothing:
// the negative answer of a predicate.
func Silent(code int) error { return WithCode(errors.New(""), code) }

// Cancelled gives an error the exit status Interrupted if it was caused by the
// cancellation of a context.
func Cancelled(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return WithCode(interrupted{err}, Interrupted)
	}
	return err
}

// interrupted replaces the text of a context's error, which is in Go's words.
type interrupted struct{ error }

func (e interrupted) Unwrap() error { return e.error }

func (e interrupted) Error() string {
	message := e.error.Error()
	if said := strings.ReplaceAll(message, context.Canceled.Error(), "interrupted"); said != message {
		return said
	}
	return "interrupted: " + message
}
