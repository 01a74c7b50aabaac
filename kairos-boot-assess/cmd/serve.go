package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/service"
	"github.com/kairos-io/toolkit/lib/bus"
)

func serveCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the service " + service.Name + " on the system bus, until it is idle",
		Flags: bus.Flags(),
		Action: func(c *cli.Context) error {
			served, err := bus.Open(c, bus.Config{Name: service.Name, Explanations: explanations})
			if err != nil {
				return err
			}
			return service.Serve(c.Context, served, node)
		},
	}
}
