// Package cmd implements the command line of kairos-boot-assess, one file per command.
package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/logline"
)

// App returns the application for a machine.
func App(node *assess.Node) *cli.App {
	app := cmdline.New("kairos-boot-assess", "decide whether this boot is good, and keep the history of boots")
	cmdline.Explains(app, explanations)
	app.Before = func(c *cli.Context) error { // where stderr is is known by then
		node.Log = logline.New(c.App.ErrWriter, c.App.Name, false)
		return nil
	}
	app.Commands = []*cli.Command{
		statusCommand(node),
		historyCommand(node),
		checkCommand(node),
		goodCommand(node),
		badCommand(node),
		rearmCommand(node),
		blessCommand(node),
		repairCommand(node),
		serveCommand(node),
		recordCommand(node),
		failCommand(node),
	}
	return app
}
