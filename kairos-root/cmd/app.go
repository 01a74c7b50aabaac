// Package cmd implements the command line of kairos-root.
package cmd

import (
	"io"

	"github.com/kairos-io/toolkit/kairos-root/internal/cli"
)

// Run runs kairos-root and returns its exit status. args[0] is the name of the
// program.
func Run(args []string, out, err io.Writer) int { return App(out, err).Run(args) }

// App returns the application.
func App(out, err io.Writer) cli.App {
	return cli.App{
		Name: "kairos-root", Usage: "mount the immutable root and its writable paths in the initrd",
		Out: out, Err: err,
		Commands: []cli.Command{mountCommand(), statusCommand(), failedCommand()},
	}
}
