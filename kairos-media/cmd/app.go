// Package cmd is the command line of kairos-media: one file per command.
package cmd

import (
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/urfave/cli/v2"
)

// App returns the program.
func App() *cli.App {
	app := cmdline.New("kairos-media", "make bootable media and disk images from images")
	app.Commands = []*cli.Command{}
	return app
}
