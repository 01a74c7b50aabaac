// Package cmd implements the command line of kairos-boot-assess, one file per command.
package cmd

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

// App returns the application for a machine.
func App(node *assess.Node) *cli.App {
	app := cmdline.New("kairos-boot-assess", "decide whether this boot is good, and keep the history of boots")
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

// notBooted sets the exit status of the error that the running system is no deployment:
// there is nothing to assess.
func notBooted(err error) error {
	if errors.Is(err, deployment.ErrNotBooted) {
		return exit.Hint(exit.WithCode(err, exit.Nothing),
			"kairos-root writes %s when a deployment boots", deployment.BootedPath)
	}
	return err
}
