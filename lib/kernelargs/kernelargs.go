// Package kernelargs splits kernel command lines into arguments.
package kernelargs

import (
	"errors"
	"iter"
	"strings"
)

// Words splits a command line as the kernel does (lib/cmdline.c, next_arg): at white
// space, except between double quotes, which are removed. Arguments after "--" belong
// to init, but systemd parses them as well, so Words returns them too.
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

// Cut returns the name and the value of an argument. The kernel treats "-" and "_" in
// names alike: the returned name contains "_" only.
func Cut(word string) (name, value string, hasValue bool) {
	name, value, hasValue = strings.Cut(word, "=")
	return strings.ReplaceAll(name, "-", "_"), value, hasValue
}

// Errors of Check.
var (
	ErrEmpty   = errors.New("empty")
	ErrBytes   = errors.New("only printable ASCII characters are allowed")
	ErrQuotes  = errors.New("a quotation mark is not closed")
	ErrForInit = errors.New("arguments after -- are not for the kernel")
)

// Check returns an error for text that would change the meaning of the arguments beside
// it in a command line.
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
