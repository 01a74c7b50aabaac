// Package kind gives errors a kind, for callers that decide by errors.Is: a
// sentinel that need not stand in the text.
package kind

import (
	"errors"
	"fmt"
)

// Error is an error of a kind. Its text is that of Err.
type Error struct {
	Kind  error  // what errors.Is finds, with all that it wraps
	About string // what a hint may name, such as the id of a deployment; may be ""
	Err   error
}

func (e *Error) Error() string        { return e.Err.Error() }
func (e *Error) Unwrap() error        { return e.Err }
func (e *Error) Is(target error) bool { return errors.Is(e.Kind, target) }

// Of returns err as one of a kind, nil when err is nil.
func Of(kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Err: err}
}

// Errorf returns an error of a kind with a text of its own.
func Errorf(kind error, format string, args ...any) error {
	return Of(kind, fmt.Errorf(format, args...))
}

// About returns what an error of a kind is about, "" when it does not say it.
func About(err, kind error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			break
		}
		if e.About != "" && errors.Is(e.Kind, kind) {
			return e.About
		}
		err = e.Err
	}
	return ""
}
