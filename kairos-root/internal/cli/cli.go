// Package cli implements the command line of kairos-root: commands with options without
// values. lib/argv parses it, as for the other programs. It doesn't use urfave/cli,
// whose help templates would make kairos-root larger than the 4 MB that it may take in
// an initrd.
package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/exit"
)

// App is a program.
type App struct {
	Name, Usage string
	Commands    []Command
	Out, Err    io.Writer
}

// Command is a command of a program.
type Command struct {
	Name, Usage string
	Flags       []Flag
	Run         func(*Call) error
}

// Flag is an option without a value: --name.
type Flag struct{ Name, Usage string }

// Call is a parsed call of a command.
type Call struct {
	Out, Err io.Writer
	line     argv.Call
}

// Bool reports whether an option was given.
func (c *Call) Bool(name string) bool { return c.line.Bool(name) }

var (
	helpOption    = argv.Option{Name: "help", Aliases: []string{"h"}, Usage: "show help"}
	versionOption = argv.Option{Name: "version", Aliases: []string{"v"}, Usage: "print the version"}
)

// Run runs the program and returns its exit status. args[0] is its name.
func (a App) Run(args []string) int {
	program := a.describe()
	if words := args[1:]; len(words) > 0 && words[0] == argv.Completion {
		program.Complete(a.Out, words[1:], nil)
		return exit.OK
	}
	line, err := program.Parse(args[1:])
	if err == nil {
		err = a.run(line)
	}
	if err != nil {
		exit.Print(a.Err, a.Name, err, line.Bool("json"))
	}
	return exit.Code(err)
}

// describe returns the description of the program for lib/argv. Without a command the
// program shows its status, if it has that command.
func (a App) describe() *argv.Command {
	program := &argv.Command{Name: a.Name, Usage: a.Usage, Options: []argv.Option{helpOption, versionOption}}
	for _, c := range a.Commands {
		described := argv.Command{Name: c.Name, Usage: c.Usage}
		for _, f := range c.Flags {
			described.Options = append(described.Options, argv.Option{Name: f.Name, Usage: f.Usage})
		}
		described.Options = append(described.Options, helpOption)
		program.Commands = append(program.Commands, described)
		if c.Name == "status" {
			program.Default = c.Name
		}
	}
	return program
}

func (a App) run(line argv.Call) error {
	command := a.command(line.Command().Name)
	text := ""
	switch {
	case line.Bool("version"):
		text = fmt.Sprintf("%s version %s\n", a.Name, buildinfo.Version)
	case line.Bool("help") && command == nil:
		text = a.help()
	case line.Bool("help"):
		text = a.commandHelp(*command)
	case len(line.Arguments) > 0:
		return exit.Usagef("unexpected argument %q", line.Arguments[0])
	default:
		return command.Run(&Call{a.Out, a.Err, line})
	}
	_, err := io.WriteString(a.Out, text)
	return err
}

// command returns the command with a name, nil for the program itself.
func (a App) command(name string) *Command {
	for i := range a.Commands {
		if a.Commands[i].Name == name {
			return &a.Commands[i]
		}
	}
	return nil
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
	fmt.Fprintf(&out, "   --%-12s %s\n", "help, -h", helpOption.Usage)
	return out.String()
}
