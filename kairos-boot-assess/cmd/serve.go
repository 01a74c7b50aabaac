package cmd

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/service"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func serveCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "be the service " + service.Name + " on the system bus, until nobody needs it",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "idle", Value: 30 * time.Second, Usage: "leave after `TIME` without calls and work; 0: never"},
			cmdline.QuietFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			if c.Duration("idle") < 0 {
				return cmdline.Usagef("--idle %s: less than nothing", c.Duration("idle"))
			}
			log := cmdline.NewLogger(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
			return service.Serve(c.Context, node, c.Duration("idle"), log)
		},
	}
}
