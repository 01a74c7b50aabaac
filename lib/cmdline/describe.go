package cmdline

import (
	"regexp"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/urfave/cli/v2"
)

// bare is the command that a program with commands runs when the line names none.
const bare = "status"

// Completes sets the functions that return completions for arguments and values of
// options by their placeholders, such as ID or STAGE. They must not change anything.
func Completes(app *cli.App, values argv.Values) { app.Metadata[argv.Completion] = values }

func completions(app *cli.App) argv.Values {
	values, _ := app.Metadata[argv.Completion].(argv.Values)
	return values
}

// describe converts an application to its description for lib/argv.
func describe(app *cli.App) *argv.Command {
	program := &argv.Command{
		Name: app.Name, Usage: app.Usage, Runs: app.Action != nil, Arguments: app.ArgsUsage,
		Options:  append(options(app.Flags), helpOption, argv.Option{Name: "version", Aliases: []string{"v"}, Usage: "print the version"}),
		Commands: commands(app.Commands),
	}
	if app.Action == nil && program.Command(bare) != nil {
		program.Default = bare
	}
	return program
}

var helpOption = argv.Option{Name: "help", Aliases: []string{"h"}, Usage: "show help"}

func commands(list []*cli.Command) (described []argv.Command) {
	for _, c := range list {
		described = append(described, argv.Command{
			Name: c.Name, Usage: c.Usage, Hidden: c.Hidden, Runs: c.Action != nil, Arguments: c.ArgsUsage,
			Options: append(options(c.Flags), helpOption), Commands: commands(c.Subcommands),
		})
	}
	return described
}

// placeholder matches the placeholder of the value in the description of an option.
var placeholder = regexp.MustCompile("`([^`]*)`")

func options(flags []cli.Flag) (described []argv.Option) {
	for _, f := range flags {
		names := f.Names()
		o := argv.Option{Name: names[0], Aliases: names[1:], Kind: argv.Text}
		switch f.(type) {
		case *cli.BoolFlag:
			o.Kind = argv.Switch
		case waitFlag:
			o.Kind = argv.Wait
		case *cli.IntFlag:
			o.Kind = argv.Number
		case *cli.DurationFlag:
			o.Kind = argv.Duration
		}
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			o.Usage = doc.GetUsage()
		}
		if match := placeholder.FindStringSubmatch(o.Usage); match != nil {
			o.Value = match[1]
		}
		if v, ok := f.(cli.VisibleFlag); ok {
			o.Hidden = !v.IsVisible()
		}
		described = append(described, o)
		if o.Name == "json" {
			described = append(described, outputOption)
		}
	}
	return described
}

// plain returns a call in the order that urfave/cli expects: the options of each
// command after its name, then the arguments.
func plain(program string, call argv.Call) []string {
	line := []string{program}
	for level, at := range call.Path {
		if level > 0 {
			line = append(line, at.Name)
		}
		for _, given := range call.Options {
			if owner(call.Path, given) == level {
				line = append(line, "--"+given.Name+"="+given.Value)
			}
		}
	}
	if len(call.Arguments) > 0 && !call.Bool("help") {
		line = append(append(line, "--"), call.Arguments...)
	}
	return line
}

// owner returns the level of the command to which an option belongs.
func owner(path []*argv.Command, given argv.Given) int {
	for level := len(path) - 1; level > 0; level-- {
		for i := range path[level].Options {
			if &path[level].Options[i] == given.Option {
				return level
			}
		}
	}
	return 0
}
