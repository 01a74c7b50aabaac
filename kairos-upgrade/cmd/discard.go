package cmd

import (
	"io"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func discardCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "discard",
		Usage: "remove the staged deployment: the running one boots next",
		Flags: append(storeFlags(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			dryRun := c.Bool("dry-run")
			return m.with(c, changeUnless(dryRun, "discard"), func(n *deploy.Node) error {
				r, err := n.Discard(dryRun)
				return printRemoved(c, r, err)
			})
		},
	}
}

func removeCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "remove a deployment, and the files that only it needs",
		ArgsUsage: "ID",
		Flags: append(storeFlags(), &cli.BoolFlag{Name: "force", Usage: "remove the last deployment to fall back to, too"},
			cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "ID")
			if err != nil {
				return err
			}
			dryRun := c.Bool("dry-run")
			return m.with(c, changeUnless(dryRun, "remove").on(args[0]), func(n *deploy.Node) error {
				r, err := n.Remove(args[0], c.Bool("force"), dryRun)
				return printRemoved(c, r, err)
			})
		},
	}
}

func printRemoved(c *cli.Context, r deploy.Removed, err error) error {
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, r)
	}
	printCollected(c.App.Writer, r.Collected, c.Bool("dry-run"))
	printNext(c.App.Writer, r.Next)
	return nil
}

func printNext(w io.Writer, id string) {
	if id != "" {
		terminal.Fprintf(w, "%s boots next\n", id)
	}
}

// listOf joins ids for people.
func listOf(ids []string) string { return strings.Join(ids, ", ") }
