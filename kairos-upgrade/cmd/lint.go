package cmd

import (
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/lint"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/urfave/cli/v2"
)

func lintCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "lint",
		Usage:     "check whether an image can boot as a node, without root and without a store",
		ArgsUsage: "SOURCE",
		Flags: append(sourceFlags(), &cli.BoolFlag{Name: "strict", Usage: "fail on warnings, too"},
			cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "SOURCE")
			if err != nil {
				return err
			}
			if err := m.confine(args, nil); err != nil {
				return err
			}
			bar := progress.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
			found, err := deploy.Lint(c.Context, args[0], os.TempDir(), m.sourceOptions(c), bar)
			bar.Close()
			if err != nil {
				return err
			}
			return printFindings(c, args[0], found)
		},
	}
}

// printFindings prints what was found. The exit status is 1 where the image
// cannot boot and, with --strict, where anything was found.
func printFindings(c *cli.Context, given string, found []lint.Finding) error {
	boots := lint.Boots(found)
	if c.Bool("json") {
		if found == nil {
			found = []lint.Finding{}
		}
		if err := cmdline.PrintJSON(c, report.Lint{Source: given, Boots: boots, Findings: found}); err != nil {
			return err
		}
	} else {
		for _, f := range found {
			fmt.Fprintf(c.App.Writer, "%s: %v\n", f.Level, f)
			if f.Hint != "" && !c.Bool("quiet") {
				fmt.Fprintf(c.App.Writer, "  hint: %s\n", f.Hint)
			}
		}
		if len(found) == 0 && !c.Bool("quiet") {
			fmt.Fprintln(c.App.Writer, "no findings: the image can boot as a node")
		}
	}
	if !boots || c.Bool("strict") && len(found) > 0 {
		return exit.Silent(exit.Failed)
	}
	return nil
}
