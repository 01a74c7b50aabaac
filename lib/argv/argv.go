// Package argv parses command lines by the rules of getopt_long(3): options may stand
// anywhere, before and after arguments and the name of the command; short options may
// be bundled (-yq) and take their value from the same word (-n5) or the next;
// --name=value and --name value mean the same; "--" ends the options. In addition, a
// long option may be written with a single dash, as Go's flag package allows.
//
// The package executes nothing and prints nothing: lib/cmdline and kairos-root do.
package argv

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/lock"
	"github.com/kairos-io/toolkit/lib/spell"
)

// Kind is the type of an option's value.
type Kind int

// Kinds of options.
const (
	Switch   Kind = iota // no value, or true or false after "="
	Text                 // any text
	Number               // a whole number
	Duration             // a duration as time.ParseDuration reads it
	Wait                 // no value, or how long after "=": see package lock
)

// Option is an option of a command.
type Option struct {
	Name    string
	Aliases []string // a short form has one letter
	Usage   string
	Kind    Kind
	Value   string // placeholder of the value in help: "FILE"
	Hidden  bool
}

func (o *Option) has(name string) bool { return o.Name == name || slices.Contains(o.Aliases, name) }

// alone is the value of an option that takes none from the next word, "" for others.
func (o *Option) alone() string {
	switch o.Kind {
	case Switch:
		return "true"
	case Wait:
		return lock.Forever
	}
	return ""
}

// spelling returns the option as it is written on a command line.
func spelling(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// Command is a program, or one of its commands.
type Command struct {
	Name     string
	Usage    string
	Hidden   bool
	Options  []Option
	Commands []Command // subcommands: a command that has some takes no arguments of its own
	// Runs says that a command with subcommands also does something without one of
	// them. Its options are for that case alone, except help and version.
	Runs bool
	// Arguments are the names of the arguments: "DEVICE [NAME]", "FILE...".
	Arguments string
	// Default is the subcommand that runs where none is given.
	Default string
}

func (c *Command) option(name string) *Option {
	for i := range c.Options {
		if c.Options[i].has(name) {
			return &c.Options[i]
		}
	}
	return nil
}

// anywhere finds an option of the command or of any command below it, while the command
// is not known yet.
func (c *Command) anywhere(name string) *Option {
	if o := c.option(name); o != nil {
		return o
	}
	for i := range c.Commands {
		if o := c.Commands[i].anywhere(name); o != nil {
			return o
		}
	}
	return nil
}

// Command returns the subcommand with a name, or nil.
func (c *Command) Command(name string) *Command {
	for i := range c.Commands {
		if c.Commands[i].Name == name {
			return &c.Commands[i]
		}
	}
	return nil
}

// Given is an option with its value from the command line.
type Given struct {
	*Option
	Value string // of a switch: "true" or "false"
}

// Call is a parsed command line.
type Call struct {
	Path      []*Command // the program, then the names of its subcommands
	Options   []Given    // in the order of the command line
	Arguments []string
}

// Command returns the command that the line calls.
func (c Call) Command() *Command { return c.Path[len(c.Path)-1] }

// Bool reports whether a switch is on.
func (c Call) Bool(name string) bool {
	on := false
	for _, g := range c.Options {
		if g.Name == name {
			on = g.Value == "true"
		}
	}
	return on
}

// word is one parsed word of a command line.
type word struct {
	options []Given
	open    *Option // the option takes the next word as its value
	bad     string  // an unknown option, as it was written
}

// Parse parses a command line without the program's name. An error is always one of
// wrong usage; the Call then holds what was parsed, since --json decides how the error
// is printed. The word help in the place of a subcommand sets the option help of the
// command that follows it.
func (c *Command) Parse(words []string) (Call, error) {
	path, skip, helped, err := c.find(words)
	implied := !helped && len(path)-1 > len(skip) // the default of a group
	call := Call{Path: path}
	note := func(next error) {
		if err == nil {
			err = next
		}
	}
	for i, ended := 0, false; i < len(words); i++ {
		switch w := words[i]; {
		case slices.Contains(skip, i):
			continue
		case ended || !isOption(w):
			call.Arguments = append(call.Arguments, w)
			continue
		case w == "--":
			ended = true
			continue
		}
		read := split(words[i], call.lookup)
		if read.open != nil {
			if i+1 == len(words) {
				note(exit.Usagef("option %s needs a value", spelling(read.open.Name)))
				break
			}
			i++
			read.options = append(read.options, Given{read.open, words[i]})
		}
		if read.bad != "" {
			note(call.unknown(read.bad))
		}
		for _, g := range read.options {
			note(g.check())
			call.Options = append(call.Options, g)
		}
	}
	if o := call.lookup("help"); o != nil && helped {
		call.Options = append(call.Options, Given{o, "true"})
	}
	asks := call.Bool("help") || call.Bool("version")
	if implied && asks {
		call.Path = call.Path[:len(call.Path)-1]
	}
	switch at := call.Command(); {
	case len(at.Commands) == 0:
	case len(call.Arguments) > 0:
		note(at.unknownCommand(call.Arguments[0], c))
	case !asks && !at.Runs:
		note(exit.Hint(exit.Usagef("no command given"), "%s --help lists the commands", strings.Join(call.names(), " ")))
	}
	return call, err
}

// names returns the name of the program and those of the called command.
func (c Call) names() (names []string) {
	for _, at := range c.Path {
		names = append(names, at.Name)
	}
	return names
}

// find returns the command that a line calls and the words that name it. Before that
// command is known, all options of the commands below are accepted: an option may stand
// before the name of the command that has it.
func (c *Command) find(words []string) (path []*Command, skip []int, helped bool, err error) {
	path = []*Command{c}
	at := c
	for i := 0; i < len(words) && words[i] != "--"; i++ {
		if isOption(words[i]) {
			if read := split(words[i], at.anywhere); read.open != nil {
				i++
			}
			continue
		}
		switch next := at.Command(words[i]); {
		case next != nil:
			path, skip, at = append(path, next), append(skip, i), next
			continue
		case words[i] == "help" && !helped && (len(at.Commands) > 0 || at.Arguments == "" && at == c):
			helped, skip = true, append(skip, i)
			continue
		case len(at.Commands) > 0:
			return path, skip, helped, at.unknownCommand(words[i], c)
		}
		return path, skip, helped, nil
	}
	if next := at.Command(at.Default); next != nil && !helped {
		path = append(path, next)
	}
	return path, skip, helped, nil
}

// lookup finds an option of the called command, or of the program.
func (c Call) lookup(name string) *Option {
	for i := len(c.Path) - 1; i >= 0; i-- {
		o := c.Path[i].option(name)
		if o != nil && (i == len(c.Path)-1 || !c.Path[i].Runs || o.Name == "help" || o.Name == "version") {
			return o
		}
	}
	if at := c.Command(); len(at.Commands) > 0 {
		return at.anywhere(name) // no command was found: the error is about that
	}
	return nil
}

// isOption reports whether a word is one or more options, or "--".
func isOption(w string) bool { return len(w) > 1 && w[0] == '-' }

// split reads a word that starts with a dash.
func split(w string, lookup func(string) *Option) word {
	if w == "--" {
		return word{}
	}
	name, value, hasValue := strings.Cut(strings.TrimPrefix(w[1:], "-"), "=")
	if o := lookup(name); o != nil {
		switch {
		case hasValue:
			return word{options: []Given{{o, value}}}
		case o.alone() != "":
			return word{options: []Given{{o, o.alone()}}}
		}
		return word{open: o}
	}
	if w[1] == '-' || len(name) < 2 {
		return word{bad: spelling(name)}
	}
	return bundle(w[1:], lookup)
}

// bundle parses short options that share a word; the last one may have its value in the
// same word.
func bundle(letters string, lookup func(string) *Option) (read word) {
	for rest := letters; rest != ""; {
		_, size := utf8.DecodeRuneInString(rest)
		letter, first := rest[:size], len(rest) == len(letters)
		o := lookup(letter)
		rest = rest[size:]
		switch {
		case o == nil && first:
			name, _, _ := strings.Cut(letters, "=")
			return word{bad: spelling(name)}
		case o == nil:
			read.bad = "-" + letter
			return read
		case o.alone() != "" && strings.HasPrefix(rest, "="):
			read.options = append(read.options, Given{o, rest[1:]})
			return read
		case o.alone() != "":
			read.options = append(read.options, Given{o, o.alone()})
		case rest == "":
			read.open = o
		default:
			read.options = append(read.options, Given{o, strings.TrimPrefix(rest, "=")})
			return read
		}
	}
	return read
}

// check converts a value to the canonical form for its kind of option, or returns why
// it is invalid.
func (g *Given) check() error {
	name := spelling(g.Name)
	switch g.Kind {
	case Switch:
		on, err := strconv.ParseBool(g.Value)
		if err != nil {
			return exit.Usagef("option %s: %q is neither true nor false", name, g.Value)
		}
		g.Value = strconv.FormatBool(on)
	case Number:
		if _, err := strconv.ParseInt(g.Value, 0, 64); err != nil {
			return exit.Usagef("option %s: %q is not a whole number", name, g.Value)
		}
	case Wait:
		if _, err := lock.ParseLimit(g.Value); err != nil {
			return err
		}
	case Duration:
		if _, err := time.ParseDuration(g.Value); err != nil {
			return exit.Hint(exit.Usagef("option %s: %q is not a duration", name, g.Value), "durations are written 90s, 5m or 1h30m")
		}
	}
	return nil
}

func (c Call) unknown(spelled string) error {
	err := exit.Usagef("unknown option %s", spelled)
	if len(spelled) == 2 {
		return err
	}
	if near := spell.Closest(strings.TrimLeft(spelled, "-"), c.known()); near != "" {
		return exit.Hint(err, "did you mean --%s?", near)
	}
	return err
}

// known returns the long options of the called command.
func (c Call) known() (names []string) {
	for _, at := range c.Path {
		for _, o := range at.Options {
			if !o.Hidden {
				names = append(names, o.Name)
			}
		}
	}
	return names
}

func (c *Command) unknownCommand(name string, program *Command) error {
	err := exit.Usagef("unknown command %q", name)
	var names []string
	for _, cmd := range c.Commands {
		if cmd.Name == name {
			return exit.Hint(err, "only arguments may follow --")
		}
		if cmd.Hidden {
			continue
		}
		if name != "" && strings.HasPrefix(cmd.Name, name) {
			return exit.Hint(err, "did you mean %q?", cmd.Name)
		}
		names = append(names, cmd.Name)
	}
	if near := spell.Closest(name, names); near != "" {
		return exit.Hint(err, "did you mean %q?", near)
	}
	return exit.Hint(err, "%s --help lists the commands", program.Name)
}
