package exit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Message returns the text of an error for people. It replaces texts of Go's packages,
// such as "invalid character '}' looking for beginning of value", by plain words.
func Message(err error) string {
	message := err.Error()
	visit(err, func(err error) {
		if text := plain(err); text != "" {
			message = strings.ReplaceAll(message, err.Error(), text)
		}
	})
	return message
}

// visit calls f for an error and all errors that it wraps.
func visit(err error, f func(error)) {
	if err == nil {
		return
	}
	f(err)
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		visit(wrapper.Unwrap(), f)
	case interface{ Unwrap() []error }:
		for _, err := range wrapper.Unwrap() {
			visit(err, f)
		}
	}
}

// plain returns the text that replaces the text of one of Go's errors, "" where that
// one is plain enough.
func plain(err error) string {
	switch e := err.(type) {
	case *json.SyntaxError:
		if strings.HasPrefix(e.Error(), "unexpected end") {
			return "not valid JSON: it ends too early"
		}
		return "not valid JSON at byte " + strconv.FormatInt(e.Offset, 10)
	case *json.UnmarshalTypeError:
		text := "the JSON has a wrong type: " + e.Value
		if e.Field != "" {
			text += " in " + e.Field
		}
		return text
	case *strconv.NumError:
		text := strconv.Quote(e.Num)
		if errors.Is(e.Err, strconv.ErrRange) {
			return text + " is too large or too small"
		}
		return text + " is not a number"
	}
	switch err {
	case context.DeadlineExceeded:
		return "timed out"
	case context.Canceled:
		return "interrupted"
	case io.ErrUnexpectedEOF:
		return "it ends too early"
	case io.EOF:
		return "it is empty or ends too early"
	}
	return ""
}
