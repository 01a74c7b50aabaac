package terminal

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Line returns a text as one line that is safe to print on a terminal. Everything that
// is not printable (escape sequences, C0 and C1 control characters, marks that change
// the direction of writing or join letters, line breaks, invalid UTF-8) is escaped as
// in Go and C: \x1b, \n, \u202e. Use it for text from images, configs, disks and
// programs.
func Line(s string) string { return mask(s, "") }

// Text is Line for a text of several lines, which may contain tabs.
func Text(s string) string { return mask(s, "\n\t") }

func mask(s, kept string) string {
	clean := true
	for i, r := range s {
		if !printable(r, s[i:]) && !strings.ContainsRune(kept, r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		case strconv.IsPrint(r), strings.ContainsRune(kept, r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

func printable(r rune, at string) bool {
	if r == utf8.RuneError {
		_, size := utf8.DecodeRuneInString(at)
		return size > 1
	}
	return strconv.IsPrint(r)
}

// Writer returns a writer that masks what is written to it as Text does. It holds back
// an incomplete character at the end of a write until the next one.
func Writer(w io.Writer) io.Writer { return &writer{w: w} }

// Data returns the underlying writer of a Writer, for data that must not be changed, or
// the Writer itself where the underlying writer is a terminal.
func Data(w io.Writer) io.Writer {
	masking, ok := w.(*writer)
	if !ok {
		return w
	}
	if f, ok := masking.w.(*os.File); ok && Is(f) {
		return w
	}
	masking.wrote = true
	return masking.w
}

// Wrote reports whether anything was written to a Writer, or to its Data.
func Wrote(w io.Writer) bool {
	masking, ok := w.(*writer)
	return ok && masking.wrote
}

type writer struct {
	w     io.Writer
	rest  []byte
	wrote bool
}

func (w *writer) Write(p []byte) (int, error) {
	w.wrote = w.wrote || len(p) > 0
	text := append(w.rest, p...)
	cut := len(text)
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		if b := text[len(text)-back]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(text[len(text)-back:]) {
				cut = len(text) - back
			}
			break
		}
	}
	w.rest = append([]byte(nil), text[cut:]...)
	if _, err := io.WriteString(w.w, Text(string(text[:cut]))); err != nil {
		return 0, err
	}
	return len(p), nil
}
