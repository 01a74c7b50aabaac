package cmdline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// Exit statuses, the same in every program and documented in every man page.
const (
	ExitOK          = 0   // done
	ExitFailed      = 1   // failed
	ExitUsage       = 2   // wrong usage
	ExitNothing     = 3   // nothing to do, no update
	ExitRefused     = 4   // refused by policy: signature, quarantine
	ExitNoSpace     = 5   // not enough space
	ExitBusy        = 6   // another transaction holds the lock
	ExitInterrupted = 130 // interrupted
)

type codeError struct {
	err  error
	code int
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// WithCode gives an error the exit status that the program shall end with.
func WithCode(err error, code int) error {
	if err == nil {
		return nil
	}
	return &codeError{err, code}
}

// Usagef returns an error about wrong usage: exit status 2.
func Usagef(format string, args ...any) error {
	return WithCode(fmt.Errorf(format, args...), ExitUsage)
}

// Code returns the exit status of an error: the one nearest to the surface
// that WithCode gave, 5 for ENOSPC and EDQUOT, 1 for everything else.
func Code(err error) int {
	var coded *codeError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ExitNoSpace
	}
	return ExitFailed
}

type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// Hint adds to an error what a person can do about it. It is printed on a
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

// ExitError is the object that a program prints on stderr as its last line
// when it fails under --json.
type ExitError struct {
	MessageType string `json:"message_type"` // always "exit_error"
	Code        int    `json:"code"`
	Message     string `json:"message"`
	Hint        string `json:"hint,omitempty"`
}

// PrintError prints an error for people, or for programs under --json.
func PrintError(w io.Writer, name string, err error, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(w).Encode(ExitError{"exit_error", Code(err), err.Error(), HintOf(err)})
		return
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintf(w, "%s: %s\n", name, msg)
	}
	if hint := HintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// Silent returns an error that ends the program with a status and prints
// nothing: the answer of a predicate.
func Silent(code int) error { return WithCode(errors.New(""), code) }
