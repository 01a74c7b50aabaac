package cmd

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// excerpt prints the lines of a file with problems.
type excerpt struct{ lines []string }

// newExcerpt reads a file with problems. For an unreadable file it prints no lines.
func newExcerpt(name string, problems diag.List) excerpt {
	if len(problems) == 0 {
		return excerpt{}
	}
	f, err := os.Open(name)
	if err != nil {
		return excerpt{}
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return excerpt{}
	}
	data, err := io.ReadAll(io.LimitReader(f, source.MaxSize))
	if err != nil {
		return excerpt{}
	}
	return excerpt{mask.Lines(strings.ToValidUTF8(string(data), "\ufffd"))}
}

// maxShown is how many characters of a line are printed.
const maxShown = 200

// line returns the line of a problem, "" when there is none.
func (e excerpt) line(pos diag.Pos) string {
	if pos.Line < 1 || pos.Line > len(e.lines) {
		return ""
	}
	line := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f { // no control of the terminal
			return '\ufffd'
		}
		return r
	}, strings.TrimPrefix(strings.TrimRight(e.lines[pos.Line-1], "\r"), "\ufeff"))
	if runes := []rune(line); len(runes) > maxShown {
		line = string(runes[:maxShown]) + "…"
	}
	return line
}

// print prints a problem as compilers do: position and message, the line, a mark below
// the position, and the hint on a line of its own.
func (e excerpt) print(w io.Writer, p diag.Problem) {
	terminal.Fprintf(w, "%v: %s: %s\n", p.Pos, p.Severity, mask.Text(p.Message))
	if line := e.line(p.Pos); line != "" {
		fmt.Fprintf(w, "%5d | %s\n", p.Pos.Line, terminal.Text(line)) // tabs are what it may be about
		if runes := []rune(line); p.Pos.Column > 0 && p.Pos.Column <= len(runes) {
			pad := strings.Map(func(r rune) rune {
				if r == '\t' {
					return r
				}
				return ' '
			}, string(runes[:p.Pos.Column-1]))
			fmt.Fprintf(w, "      | %s^\n", pad)
		}
	}
	if p.Hint != "" {
		terminal.Fprintf(w, "hint: %s\n", mask.Text(p.Hint))
	}
}
