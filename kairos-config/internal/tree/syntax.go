package tree

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"go.yaml.in/yaml/v3"
)

// unreadable finds the first byte that can't be in a text: the YAML parser
// refuses it without saying where.
func unreadable(data []byte) (at diag.Pos, what string) {
	at = diag.Pos{Line: 1, Column: 1}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return at, fmt.Sprintf("byte 0x%02x is not UTF-8", data[0])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return at, fmt.Sprintf("control character 0x%02x", data[0])
		case r == '\n':
			at.Line++
			at.Column = 0
		}
		at.Column++
		data = data[size:]
	}
	return at, ""
}

// syntaxError says where the YAML parser stumbles, over what, and what to do
// about it. The parser itself often names the line where the map or the list
// began; the place is found by asking it again, for ever shorter beginnings of
// the text. That takes its time: of a text that is larger than any real one
// the parser's own line has to do.
func syntaxError(data []byte, err error) (at diag.Pos, message, hint string) {
	line, message := syntaxMessage(err)
	if len(data) > maxSearched {
		return diag.Pos{Line: line}, message, ""
	}
	fails := func(length int) bool {
		_, again := syntaxMessage(yaml.Unmarshal(data[:length], new(yaml.Node)))
		return again == message
	}
	ends := lineEnds(data)
	line = min(sort.Search(len(ends), func(i int) bool { return fails(ends[i]) }), len(ends)-1)
	start := 0
	if line > 0 {
		start = ends[line-1] + 1
	}
	text := data[start:ends[line]]
	length := sort.Search(len(text), func(i int) bool { return fails(start + i) })
	if name, ok := strings.CutPrefix(message, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		length = bytes.Index(text, []byte("*"+name)) + 1
	}
	at = diag.Pos{Line: line + 1, Column: max(1, utf8.RuneCount(text[:length]))}
	return at, message, syntaxHint(message, string(text), at.Column)
}

// maxSearched bounds the texts in which the place of an error is searched.
const maxSearched = 128 << 10

// syntaxMessage takes apart an error of the YAML parser, whose errors have a
// text only: "yaml: line 3: …". It leaves the first line out.
func syntaxMessage(err error) (line int, message string) {
	if err == nil {
		return 0, ""
	}
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return n, text
			}
		}
	}
	return 1, message
}

// lineEnds returns where the lines of a text end, before the line break.
func lineEnds(data []byte) []int {
	var ends []int
	for i, b := range data {
		if b == '\n' {
			ends = append(ends, i)
		}
	}
	if len(data) == 0 || data[len(data)-1] != '\n' {
		ends = append(ends, len(data))
	}
	return ends
}

// syntaxHint says in other words what the YAML parser complains about.
func syntaxHint(message, line string, column int) string {
	tab := column <= len(line) && line[column-1] == '\t' || strings.HasPrefix(strings.TrimLeft(line, " -"), "\t")
	switch {
	case tab, strings.Contains(message, "tab character"):
		return "indent with spaces, not with tabs"
	case strings.Contains(message, "mapping values are not allowed"):
		return `check the indentation; a value with ": " in it needs quotes`
	case strings.Contains(message, "cannot start any token"):
		return "a value that starts with @, % or ` needs quotes"
	case strings.Contains(message, "did not find expected key"), strings.Contains(message, "did not find expected '-' indicator"):
		return "check the indentation of this line and of those above"
	case strings.Contains(message, "found unexpected end of stream"):
		return "a quote is not closed"
	case strings.Contains(message, "did not find expected ',' or"), strings.Contains(message, "did not find expected node content"):
		return "a bracket is not closed, or a comma is missing"
	}
	return ""
}
