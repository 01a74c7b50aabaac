package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
)

func statusCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the verdict of this boot, its checks, and the last fallback",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "check", Usage: "print nothing; exit status 0 when this boot is good, 1 when it is not"},
			&cli.BoolFlag{Name: "counted", Usage: "print nothing; exit status 0 when the boot loader counted this boot, 1 when it did not"},
			cmdline.JSONFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			status, err := node.Status()
			if err != nil {
				return err
			}
			if status.Unreadable != nil {
				node.Log.Warn(exit.Message(status.Unreadable))
			}
			switch {
			case c.Bool("check") && status.Boot.Outcome != history.Good, c.Bool("counted") && !status.Boot.Trial.Counted:
				return exit.Silent(exit.Failed)
			case c.Bool("check"), c.Bool("counted"):
				return nil
			case c.Bool("json"):
				return cmdline.PrintJSON(c, status)
			}
			return printStatus(c.App.Writer, status)
		},
	}
}
