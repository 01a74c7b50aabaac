package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report/boots"
)

func historyCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "list boots, their verdicts and fallbacks, newest first",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "number", Aliases: []string{"n"}, Value: 20, Usage: "list at most `N` boots, 0 for all"},
			cmdline.JSONFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			limit := c.Int("number")
			if limit < 0 {
				return exit.Usagef("--number %d: must not be negative", limit)
			}
			list, fallbacks, lasting, err := node.History()
			if err != nil {
				return err
			}
			list, fallbacks = history.Newest(list, fallbacks, limit)
			r := boots.History{Persistent: lasting, Boots: list, Fallbacks: fallbacks}
			if c.Bool("json") {
				return cmdline.PrintJSON(c, r)
			}
			return printHistory(c.App.Writer, r)
		},
	}
}
