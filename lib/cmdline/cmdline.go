// Package cmdline is the one way in which every program of the toolkit meets
// its user: options and arguments, JSON output, confirmation and shell completion.
//
// It wraps urfave/cli/v2 and mends what scripts trip over there: an option
// after an argument is rejected instead of swallowed, an unknown option or
// command is one line on stderr and exit status 2 instead of a page of help on
// stdout, and nothing but a program's result ever goes to stdout.
package cmdline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/spell"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// New returns an application with the options and the strictness that all
// programs share. The caller adds Commands, Flags and, for a program without
// subcommands, an Action.
func New(name, usage string) *cli.App {
	return &cli.App{
		Name:                 name,
		Usage:                usage,
		Version:              buildinfo.Version,
		EnableBashCompletion: true,
		HideHelpCommand:      true,
		// Values of repeatable options may have commas: console=ttyS0,115200.
		DisableSliceFlagSeparator: true,
		Writer:                    os.Stdout,
		ErrWriter:                 os.Stderr,
	}
}

// JSONFlag is the --json option: the result as one object on stdout.
func JSONFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the result as one JSON object on stdout"}
}

// YesFlag is the --yes option of destructive commands.
func YesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask for confirmation"}
}

// DryRunFlag is the --dry-run option of commands that change something.
func DryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "print what would be done, in order, and change nothing"}
}

// QuietFlag is the --quiet option: informational messages are muted, errors
// never.
func QuietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print errors only"}
}

// Main runs the application with the arguments of the process and ends the
// process with its exit status. SIGINT and SIGTERM cancel the context; a
// second one ends the process at once.
func Main(app *cli.App) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, app, os.Args))
}

// Run runs the application and returns its exit status. args[0] is the name of
// the program.
func Run(ctx context.Context, app *cli.App, args []string) int {
	tighten(app, args)
	err := app.RunContext(ctx, args)
	if err == nil {
		return exit.OK
	}
	err = exit.Cancelled(ctx, err)
	exit.Print(app.ErrWriter, app.Name, err, slices.Contains(args, "--json"))
	return exit.Code(err)
}

// tighten makes the application and all its commands strict.
func tighten(app *cli.App, args []string) {
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.OnUsageError = usageError
	app.Before = chain(app.Before, func(c *cli.Context) error {
		if app.Action != nil && len(app.Commands) == 0 {
			return rejectLateOptions(c, args)
		}
		return nil
	})
	if len(app.Commands) > 0 && app.Action == nil {
		app.Action = UnknownCommand
	}
	for _, cmd := range app.Commands {
		tightenCommand(cmd, args)
	}
}

func tightenCommand(cmd *cli.Command, args []string) {
	cmd.OnUsageError = usageError
	cmd.HideHelpCommand = true
	if len(cmd.Subcommands) > 0 {
		if cmd.Action == nil {
			cmd.Action = UnknownCommand
		}
		for _, sub := range cmd.Subcommands {
			tightenCommand(sub, args)
		}
		return
	}
	cmd.Before = chain(cmd.Before, func(c *cli.Context) error { return rejectLateOptions(c, args) })
}

func chain(first, second cli.BeforeFunc) cli.BeforeFunc {
	if first == nil {
		return second
	}
	return func(c *cli.Context) error {
		if err := first(c); err != nil {
			return err
		}
		return second(c)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	switch {
	case unknown && len(name) > 1:
		return exit.Usagef("unknown option --%s", name)
	case unknown:
		return exit.Usagef("unknown option -%s", name)
	}
	return exit.Usagef("%v", err)
}

// rejectLateOptions refuses what the flag package swallows: options behind the
// first argument. Everything behind "--" is an argument.
func rejectLateOptions(c *cli.Context, args []string) error {
	if slices.Contains(args, "--") {
		return nil
	}
	for _, arg := range c.Args().Slice() {
		if len(arg) > 1 && arg[0] == '-' {
			return exit.Hint(exit.Usagef("option %s stands behind an argument", arg),
				"options go before arguments; write -- before an argument that starts with a dash")
		}
	}
	return nil
}

// UnknownCommand is the error about an argument that is no command, with a hint
// at the one that may be meant.
func UnknownCommand(c *cli.Context) error {
	name := c.Args().First()
	if name == "" {
		return exit.Hint(exit.Usagef("no command given"), "%s --help lists the commands", c.App.Name)
	}
	commands := c.App.Commands
	if c.Command != nil && len(c.Command.Subcommands) > 0 {
		commands = c.Command.Subcommands
	}
	err := exit.Usagef("unknown command %q", name)
	for _, cmd := range commands {
		if strings.HasPrefix(cmd.Name, name) || spell.Distance(cmd.Name, name) <= 2 {
			return exit.Hint(err, "did you mean %q?", cmd.Name)
		}
	}
	return exit.Hint(err, "%s --help lists the commands", c.App.Name)
}

// Arguments checks that as many arguments were given as names and returns
// them. A name in brackets ("[ID]") is optional, one that ends in "..." takes
// all that are left, at least one unless it is optional too.
func Arguments(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	for i, name := range names {
		optional := strings.HasPrefix(name, "[")
		if i >= len(args) && !optional {
			return nil, exit.Usagef("missing argument %s", strings.TrimSuffix(name, "..."))
		}
		if strings.HasSuffix(strings.Trim(name, "[]"), "...") {
			return args, nil
		}
	}
	if len(args) > len(names) {
		return nil, exit.Usagef("unexpected argument %q", args[len(names)])
	}
	return args, nil
}

// PrintJSON writes v as one JSON object and a newline to the application's
// stdout.
func PrintJSON(c *cli.Context, v any) error {
	enc := json.NewEncoder(c.App.Writer)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// Confirm asks on the terminal whether to go on, unless --yes was given.
// Without a terminal it refuses with a hint at --yes.
func Confirm(c *cli.Context, question string) error {
	if c.Bool("yes") {
		return nil
	}
	if !terminal.Is(os.Stdin) {
		return exit.Hint(exit.Usagef("%s: confirmation needed, and stdin is no terminal", question), "add --yes")
	}
	fmt.Fprintf(c.App.ErrWriter, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(os.Stdin, &answer); err != nil && !errors.Is(err, io.EOF) && answer != "" {
		return fmt.Errorf("read answer: %w", err)
	}
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return exit.WithCode(errors.New("not confirmed, nothing was done"), exit.Failed)
	}
	return nil
}
