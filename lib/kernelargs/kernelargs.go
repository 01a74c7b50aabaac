// Package kernelargs splits a kernel command line into its arguments.
package kernelargs

import (
	"errors"
	"iter"
	"strings"
)

// Words splits a command line as the kernel does (lib/cmdline.c, next_arg): at
// white space, except between double quotes, which are dropped. What stands
// behind "--" belongs to init, but systemd reads it as well, and so does this.
func Words(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		var word strings.Builder
		quoted, started := false, false
		for i := range len(line) {
			c := line[i]
			switch {
			case c == '"':
				quoted, started = !quoted, true
			case !quoted && (c == ' ' || c >= '\t' && c <= '\r'):
				if started && !yield(word.String()) {
					return
				}
				word.Reset()
				started = false
			default:
				word.WriteByte(c)
				started = true
			}
		}
		if started {
			yield(word.String())
		}
	}
}

// Cut returns the name and the value of an argument. The kernel takes "-" and
// "_" in names for the same: the name has "_" only.
func Cut(word string) (name, value string, hasValue bool) {
	name, value, hasValue = strings.Cut(word, "=")
	return strings.ReplaceAll(name, "-", "_"), value, hasValue
}

// What Check refuses.
var (
	ErrEmpty   = errors.New("empty")
	ErrBytes   = errors.New("only printable ASCII characters are allowed")
	ErrQuotes  = errors.New("a quotation mark is not closed")
	ErrForInit = errors.New("arguments after -- are not for the kernel")
)

// Check refuses text that can't be a part of a command line without changing
// the meaning of what stands beside it.
func Check(text string) error {
	empty := true
	for word := range Words(text) {
		if word == "--" {
			return ErrForInit
		}
		empty = empty && word == ""
	}
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f }):
		return ErrBytes
	case empty:
		return ErrEmpty
	case strings.Count(text, `"`)%2 != 0:
		return ErrQuotes
	}
	return nil
}
