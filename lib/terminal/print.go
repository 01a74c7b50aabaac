package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Fprintf is fmt.Fprintf with arguments masked by Line, so that each one stays on its
// line and in its column. The format is not masked.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	return fmt.Fprintf(w, format, lines(args)...)
}

// Fprintln is fmt.Fprintln with arguments masked by Line.
func Fprintln(w io.Writer, args ...any) (int, error) { return fmt.Fprintln(w, lines(args)...) }

func lines(args []any) []any {
	safe := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case string:
			safe[i] = Line(v)
		case error:
			safe[i] = Line(v.Error())
		case fmt.Stringer:
			safe[i] = Line(v.String())
		case []string:
			list := make([]string, len(v))
			for j, s := range v {
				list[j] = Line(s)
			}
			safe[i] = list
		default:
			safe[i] = a
		}
	}
	return safe
}

// JSON returns a value as one line of JSON, with all characters escaped as \u… that a
// terminal may interpret.
func JSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	text := b.Bytes()
	var safe []byte
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == '\n' || strconv.IsPrint(r):
			safe = append(safe, text[i:i+size]...)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				safe = fmt.Appendf(safe, `\u%04x`, unit)
			}
		}
		i += size
	}
	return safe, nil
}
