package cmd

import (
	"cmp"

	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func recordCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "record",
		Usage: "record that this boot started, and quarantine deployments that failed (run by systemd)",
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			started, err := node.Start(c.Context)
			return cmp.Or(err, started.Unrecorded)
		},
	}
}
