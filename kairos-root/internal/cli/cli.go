// Package cli is the command line of a program that must stay small: commands
// with options that take no value. It keeps the rules of lib/cmdline (strict
// options, one line on stderr, exit statuses, JSON errors, completion), which
// wraps urfave/cli: that library parses templates for its help, and with it
// this program would not fit into the 4 MB that it may have in an initrd.
package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/exit"
)

// App is a program.
type App struct {
	Name, Usage string
	Commands    []Command
	Out, Err    io.Writer
}

// Command is one thing that a program does.
type Command struct {
	Name, Usage string
	Flags       []Flag
	Run         func(*Call) error
}

// Flag is an option without a value: --name.
type Flag struct{ Name, Usage string }

// Call is one call of a command.
type Call struct {
	Out, Err io.Writer
	set      map[string]bool
}

// Bool reports whether an option was given.
func (c *Call) Bool(name string) bool { return c.set[name] }

// completion is what the completion scripts of the shells append.
const completion = "--generate-bash-completion"

var (
	helpFlag    = Flag{"help", "show help"}
	versionFlag = Flag{"version", "print the version"}
)

// Run runs the program and returns its exit status. args[0] is its name.
func (a App) Run(args []string) int {
	if slices.Contains(args, completion) {
		a.complete(args[1:])
		return exit.OK
	}
	err := a.run(args[1:])
	if err != nil {
		exit.Print(a.Err, a.Name, err, slices.Contains(args, "--json"))
	}
	return exit.Code(err)
}

func (a App) run(args []string) error {
	global, rest, err := parse(args, []Flag{helpFlag, versionFlag})
	switch {
	case err != nil:
		return err
	case global["help"]:
		_, err := io.WriteString(a.Out, a.help())
		return err
	case global["version"]:
		_, err := fmt.Fprintf(a.Out, "%s version %s\n", a.Name, buildinfo.Version)
		return err
	case len(rest) == 0:
		return exit.Hint(exit.Usagef("no command given"), "%s --help lists the commands", a.Name)
	}
	command, err := a.command(rest[0])
	if err != nil {
		return err
	}
	set, arguments, err := parse(rest[1:], append(slices.Clone(command.Flags), helpFlag))
	switch {
	case err != nil:
		return err
	case set["help"]:
		_, err := io.WriteString(a.Out, a.commandHelp(command))
		return err
	}
	if err := noArguments(arguments, rest); err != nil {
		return err
	}
	return command.Run(&Call{a.Out, a.Err, set})
}

func (a App) command(name string) (Command, error) {
	for _, c := range a.Commands {
		if c.Name == name {
			return c, nil
		}
	}
	err := exit.Usagef("unknown command %q", name)
	for _, c := range a.Commands {
		if near(c.Name, name) {
			return Command{}, exit.Hint(err, "did you mean %q?", c.Name)
		}
	}
	return Command{}, exit.Hint(err, "%s --help lists the commands", a.Name)
}

// near reports whether a word is an abbreviation of a name, or has at most one
// letter too many, too few, or wrong, or two swapped.
func near(name, word string) bool {
	if strings.HasPrefix(name, word) {
		return true
	}
	for i := range min(len(name), len(word)) {
		if name[i] == word[i] {
			continue
		}
		swapped := i+1 < len(name) && i+1 < len(word) && name[i] == word[i+1] && name[i+1] == word[i] && name[i+2:] == word[i+2:]
		return swapped || name[i+1:] == word[i+1:] || name[i:] == word[i+1:] || name[i+1:] == word[i:]
	}
	return len(word) == len(name)+1
}

// parse reads options up to the first argument or "--" and returns what was
// given and what follows.
func parse(args []string, flags []Flag) (map[string]bool, []string, error) {
	set := map[string]bool{}
	for n, arg := range args {
		if arg == "--" {
			return set, args[n+1:], nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			return set, args[n:], nil
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if i := slices.IndexFunc(flags, func(f Flag) bool { return f.matches(name) }); i >= 0 {
			name = flags[i].Name
		} else if len(name) > 1 {
			return nil, nil, exit.Usagef("unknown option --%s", name)
		} else {
			return nil, nil, exit.Usagef("unknown option -%s", name)
		}
		set[name] = true
		if hasValue {
			on, err := strconv.ParseBool(value)
			if err != nil {
				return nil, nil, exit.Usagef("option --%s: %q is neither true nor false", name, value)
			}
			set[name] = on
		}
	}
	return set, nil, nil
}

// matches reports whether an option is meant: only --help and --version have a
// short form.
func (f Flag) matches(name string) bool {
	return name == f.Name || (f == helpFlag || f == versionFlag) && name == f.Name[:1]
}

// noArguments refuses arguments, and options behind one. Everything behind
// "--" is an argument.
func noArguments(arguments, all []string) error {
	if len(arguments) == 0 {
		return nil
	}
	for _, arg := range arguments {
		if len(arg) > 1 && arg[0] == '-' && !slices.Contains(all, "--") {
			return exit.Hint(exit.Usagef("option %s stands behind an argument", arg),
				"options go before arguments; write -- before an argument that starts with a dash")
		}
	}
	return exit.Usagef("unexpected argument %q", arguments[0])
}

// complete prints what may come next: commands, or, where an option was begun,
// options.
func (a App) complete(args []string) {
	args = args[:slices.Index(args, completion)]
	begun := len(args) > 0 && strings.HasPrefix(args[len(args)-1], "-")
	flags := []Flag{helpFlag, versionFlag}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, err := a.command(args[0])
		if err != nil {
			return
		}
		flags = append(slices.Clone(command.Flags), helpFlag)
	} else if !begun {
		for _, c := range a.Commands {
			fmt.Fprintln(a.Out, c.Name)
		}
	}
	if begun {
		for _, f := range flags {
			fmt.Fprintln(a.Out, "--"+f.Name)
		}
	}
}

func (a App) help() string {
	var out strings.Builder
	fmt.Fprintf(&out, "NAME:\n   %s - %s\n\nUSAGE:\n   %s [global options] command [command options]\n\nVERSION:\n   %s\n\nCOMMANDS:\n",
		a.Name, a.Usage, a.Name, buildinfo.Version)
	for _, c := range a.Commands {
		fmt.Fprintf(&out, "   %-8s %s\n", c.Name, c.Usage)
	}
	out.WriteString("\nGLOBAL OPTIONS:\n   --help, -h     show help\n   --version, -v  print the version\n")
	return out.String()
}

func (a App) commandHelp(c Command) string {
	var out strings.Builder
	fmt.Fprintf(&out, "NAME:\n   %s %s - %s\n\nUSAGE:\n   %s %s [command options]\n\nOPTIONS:\n", a.Name, c.Name, c.Usage, a.Name, c.Name)
	for _, f := range c.Flags {
		fmt.Fprintf(&out, "   --%-12s %s\n", f.Name, f.Usage)
	}
	fmt.Fprintf(&out, "   --%-12s %s\n", "help, -h", helpFlag.Usage)
	return out.String()
}
