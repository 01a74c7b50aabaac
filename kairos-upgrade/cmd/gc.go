package cmd

import (
	"io"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func gcCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "gc",
		Usage: "remove deployments that are not kept, and files that no deployment needs",
		Flags: append(storeFlags(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			return m.with(c, changeUnless(c.Bool("dry-run"), "gc"), func(n *deploy.Node) error {
				collected, err := n.Collect(c.Bool("dry-run"))
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return cmdline.PrintJSON(c, collected)
				}
				printCollected(c.App.Writer, collected, c.Bool("dry-run"))
				return nil
			})
		},
	}
}

func printCollected(w io.Writer, c deploy.Collected, dryRun bool) {
	removed := "removed"
	if dryRun {
		removed = "would remove"
	}
	for _, id := range c.Deployments {
		terminal.Fprintf(w, "%s deployment %s\n", removed, id)
	}
	terminal.Fprintf(w, "%s %d images, %d objects and %d layer records, %s\n", removed, c.Images, c.Objects, c.Layers, terminal.Bytes(c.Bytes))
	terminal.Fprintf(w, "%s %d boot files, %s\n", removed, len(c.BootFiles), terminal.Bytes(c.ESPBytes))
}
