package cmd

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func checkCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "run all health checks and give this boot its verdict",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "run the checks and show their results, but record nothing"},
			cmdline.JSONFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			boot, err := check(c, node)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = cmdline.PrintJSON(c, boot)
			} else {
				err = printChecks(c.App.Writer, boot)
			}
			if err == nil && boot.Outcome == history.Bad {
				err = fmt.Errorf("this boot is bad: %s", boot.Reason)
			}
			return err
		},
	}
}

func check(c *cli.Context, node *assess.Node) (history.Boot, error) {
	if c.Bool("dry-run") {
		return node.Rehearse(c.Context)
	}
	return node.Check(c.Context)
}
