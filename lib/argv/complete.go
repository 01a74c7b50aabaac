package argv

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/terminal"
)

// Completion is the first word of a command line by which a shell asks for completions.
// The words after it are those of the unfinished line, without the program's name, up
// to the word at the cursor.
const Completion = "__complete"

// Candidate is a possible completion.
type Candidate struct{ Word, Usage string }

// Asked is the part of the line before the cursor, on which completions depend.
type Asked struct {
	Command string            // names of the command, joined by spaces
	Options map[string]string // the options before the cursor
	Before  []string          // the arguments before the cursor
}

// Values returns completions for an argument, or for the value of an option, whose
// placeholder has a name such as "ID". It must not change anything.
type Values map[string]func(Asked) []Candidate

// Kinds of candidates that a shell knows better: the names of these arguments
// and values.
var (
	files       = []string{"FILE", "DEVICE", "DEV", "PATH"}
	directories = []string{"DIR", "DIRECTORY"}
)

// longest is how many bytes of a description a completion shows.
const longest = 120

// Complete prints completions of the last word for the scripts in units/completion:
// first a line with the type of completion ("words", "files" or "directories"), then
// one candidate a line, each with a tab and its description. It runs no command.
func (c *Command) Complete(out io.Writer, words []string, values Values) {
	kind, list := c.candidates(words, values)
	fmt.Fprintln(out, kind)
	for _, can := range list {
		// What a shell would expand, or take for an option, is not offered: it may
		// come from an image or from a config.
		if !harmless(can.Word) {
			continue
		}
		usage := strings.ReplaceAll(can.Usage, "`", "")
		if len(usage) > longest {
			usage = strings.ToValidUTF8(usage[:longest], "") + "…"
		}
		fmt.Fprintf(out, "%s\t%s\n", can.Word, terminal.Line(usage))
	}
}

func (c *Command) candidates(words []string, values Values) (kind string, list []Candidate) {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	path, skip, helped, err := c.find(before)
	if err != nil {
		return "words", nil
	}
	if !helped && len(path)-1 > len(skip) {
		path = path[:len(path)-1] // the default: another may still be written
	}
	call := Call{Path: path}
	asked := Asked{Options: map[string]string{}}
	for _, at := range path[1:] {
		asked.Command = strings.TrimSpace(asked.Command + " " + at.Name)
	}
	ended := false
	for i := 0; i < len(before); i++ {
		switch w := before[i]; {
		case slices.Contains(skip, i):
		case !ended && w == "--":
			ended = true
		case !ended && isOption(w):
			read := split(w, call.lookup)
			if read.open != nil && i+1 == len(before) {
				return value(read.open.Value, last, "", values, asked)
			}
			if read.open != nil {
				i++
				asked.Options[read.open.Name] = before[i]
			}
			for _, g := range read.options {
				asked.Options[g.Name] = g.Value
			}
		default:
			asked.Before = append(asked.Before, w)
		}
	}
	at := call.Command()
	switch name, text, hasValue := strings.Cut(last, "="); {
	case !ended && hasValue && isOption(name):
		if o := call.lookup(strings.TrimLeft(name, "-")); o != nil && o.Kind != Switch {
			return value(o.Value, text, name+"=", values, asked)
		}
		return "words", nil
	case !ended && strings.HasPrefix(last, "-"):
		return "words", call.options(last)
	case len(at.Commands) > 0:
		for _, cmd := range at.Commands {
			if !cmd.Hidden && strings.HasPrefix(cmd.Name, last) {
				list = append(list, Candidate{cmd.Name, cmd.Usage})
			}
		}
		return "words", list
	}
	return value(at.argument(len(asked.Before)), last, "", values, asked)
}

// options returns the options of the command that are not hidden.
func (c Call) options(begun string) (list []Candidate) {
	at := c.Command()
	known := at.Options
	if d := at.Command(at.Default); d != nil {
		known = append(slices.Clone(known), d.Options...)
	}
	for _, o := range known {
		if word := "--" + o.Name; !o.Hidden && strings.HasPrefix(word, begun) && !slices.ContainsFunc(list, func(c Candidate) bool { return c.Word == word }) {
			list = append(list, Candidate{word, o.Usage})
		}
	}
	return list
}

// argument returns the placeholder of the nth argument, "" where the command takes
// none.
func (c *Command) argument(n int) string {
	names := strings.Fields(c.Arguments)
	if n >= len(names) && len(names) > 0 && strings.HasSuffix(strings.Trim(names[len(names)-1], "[]"), "...") {
		n = len(names) - 1
	}
	if n >= len(names) {
		return ""
	}
	return strings.TrimSuffix(strings.Trim(names[n], "[]"), "...")
}

// value returns completions for a placeholder such as "ID" or "SLOT|KIND" that begin
// with a prefix.
func value(name, begun, prefix string, values Values, asked Asked) (kind string, list []Candidate) {
	kind = "words"
	for _, one := range strings.Split(name, "|") {
		if find := values[one]; find != nil {
			for _, c := range find(asked) {
				if strings.HasPrefix(c.Word, begun) && !strings.HasPrefix(c.Word, "-") {
					list = append(list, Candidate{prefix + c.Word, c.Usage})
				}
			}
			continue
		}
		switch {
		case slices.Contains(files, one):
			kind = "files"
		case slices.Contains(directories, one) && kind == "words":
			kind = "directories"
		}
	}
	return kind, list
}

// harmless reports whether no shell gives any character of a word a meaning.
func harmless(word string) bool {
	if word == "" || word[0] == '~' || word[0] == '=' {
		return false
	}
	for _, r := range word {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-_.,:/@+=%", r):
		default:
			return false
		}
	}
	return true
}

// Words returns candidates without descriptions.
func Words(words ...string) func(Asked) []Candidate {
	return func(Asked) (list []Candidate) {
		for _, w := range words {
			list = append(list, Candidate{Word: w})
		}
		return list
	}
}
