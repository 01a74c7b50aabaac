// Package cmdline implements the command line of the toolkit's programs: options and
// arguments, JSON output, confirmation and shell completion.
//
// It wraps urfave/cli/v2, which gets a line only after lib/argv has parsed it: options
// may stand anywhere, a wrong command line is one line on stderr and exit status 2
// instead of a page of help on stdout, and completion runs no command. Only the result
// of a program goes to stdout.
package cmdline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// New returns an application with the options and the strict parsing that all programs
// share. The caller adds Commands, Flags and, for a program without subcommands, an
// Action.
func New(name, usage string) *cli.App {
	return &cli.App{
		Name:            name,
		Usage:           usage,
		Version:         buildinfo.Version,
		HideHelpCommand: true,
		// Values of repeatable options may have commas: console=ttyS0,115200.
		DisableSliceFlagSeparator: true,
		Writer:                    os.Stdout,
		ErrWriter:                 os.Stderr,
		Metadata:                  map[string]any{},
	}
}

const explanations = "explanations"

// Explains gives the errors of an application's commands what all says of them.
func Explains(app *cli.App, all exit.Explanations) { app.Metadata[explanations] = all }

// JSONFlag returns the option --json: the result as one object on stdout.
func JSONFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the result as one JSON object on stdout"}
}

// YesFlag returns the option --yes of destructive commands.
func YesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask for confirmation"}
}

// DryRunFlag returns the option --dry-run of commands that change something.
func DryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "print what would be done, in order, and change nothing"}
}

// QuietFlag returns the option --quiet, which mutes informational messages, but never
// errors.
func QuietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print errors only"}
}

// Main runs the application with the arguments of the process and ends the
// process with its exit status. SIGINT and SIGTERM cancel the context; a
// second one ends the process at once.
func Main(app *cli.App) { os.Exit(Status(app)) }

// Status is Main without the end of the process: it returns the exit status.
func Status(app *cli.App) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return Run(ctx, app, os.Args)
}

// Run runs the application and returns its exit status. args[0] is the name of
// the program.
func Run(ctx context.Context, app *cli.App, args []string) int {
	program := describe(app)
	if words := args[1:]; len(words) > 0 && words[0] == argv.Completion {
		program.Complete(app.Writer, words[1:], completions(app))
		return exit.OK
	}
	strict(app)
	// What a command prints as it found it does nothing to a terminal.
	out := terminal.Writer(app.Writer)
	app.Writer = out
	call, err := program.Parse(args[1:])
	shell, wrong := output(&call)
	if err == nil {
		err = wrong
	}
	var object bytes.Buffer
	if shell {
		app.Writer = terminal.Writer(&object)
	} else if call.Bool("json") {
		lines := &jsonLines{w: app.ErrWriter, name: app.Name}
		app.ErrWriter = lines
		defer lines.flush()
	}
	if err == nil {
		err = app.RunContext(waiting(ctx, app, call), plain(args[0], call))
	}
	known, _ := app.Metadata[explanations].(exit.Explanations)
	err = known.Explain(exit.Cancelled(ctx, err))
	if err != nil {
		exit.Print(app.ErrWriter, app.Name, err, call.Bool("json") && !shell)
		if call.Bool("json") && !terminal.Wrote(app.Writer) {
			exit.Print(app.Writer, app.Name, err, true) // whoever reads stdout alone reads an object, too
		}
	}
	if shell {
		if failed := printShell(terminal.Data(out), object.Bytes()); failed != nil && err == nil {
			err = fmt.Errorf("write result: %w", failed)
			exit.Print(app.ErrWriter, app.Name, err, false)
		}
	}
	return exit.Code(err)
}

// strict makes commands return errors, and keeps urfave/cli from printing help about
// them.
func strict(app *cli.App) {
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.OnUsageError = usageError
	var all func([]*cli.Command)
	all = func(commands []*cli.Command) {
		for _, cmd := range commands {
			cmd.OnUsageError, cmd.HideHelpCommand = usageError, true
			all(cmd.Subcommands)
		}
	}
	all(app.Commands)
}

func usageError(_ *cli.Context, err error, _ bool) error { return exit.Usagef("%v", err) }

// Arguments returns the arguments, or an error unless there are as many as names. A
// name in brackets ("[ID]") is optional; one that ends in "..." takes all remaining
// arguments, at least one unless it is optional too.
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
	text, err := terminal.JSON(v)
	if err == nil {
		_, err = c.App.Writer.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// Data returns the writer for a result that programs read unchanged, such as a value or
// a config: stdout, on which control characters are masked only if it is a terminal.
func Data(c *cli.Context) io.Writer { return terminal.Data(c.App.Writer) }

// Confirm asks on the terminal whether to go on, unless --yes was given. Without a
// terminal it returns an error with a hint at --yes.
func Confirm(c *cli.Context, question string) error {
	if c.Bool("yes") {
		return nil
	}
	if c.Bool("json") {
		return exit.Hint(exit.Usagef("%s: confirmation needed, and with --json no question is asked", question), "add --yes")
	}
	if !terminal.Is(os.Stdin) {
		return exit.Hint(exit.Usagef("%s: confirmation needed, and stdin is no terminal", question), "add --yes")
	}
	terminal.Fprintf(c.App.ErrWriter, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(os.Stdin, &answer); err != nil && !errors.Is(err, io.EOF) && answer != "" {
		return fmt.Errorf("read answer: %w", err)
	}
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return exit.WithCode(errors.New("not confirmed: nothing was changed"), exit.Failed)
	}
	return nil
}
