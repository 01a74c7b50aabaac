package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func failCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "fail",
		Usage: "record why this boot failed, and reboot if it is on trial (run by systemd)",
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			failure, err := node.Fail(c.Context)
			if err != nil {
				return err
			}
			if !failure.Rebooted { // else it was said before
				node.Log.Error(failure.String())
			}
			return nil
		},
	}
}
