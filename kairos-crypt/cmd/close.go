package cmd

import (
	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func closeCommand() *cli.Command {
	return &cli.Command{
		Name:      "close",
		Usage:     "lock a volume again",
		ArgsUsage: "NAME",
		Flags:     []cli.Flag{cmdline.DryRunFlag(), cmdline.QuietFlag()},
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "NAME")
			if err != nil {
				return err
			}
			if err := checkName(args[0]); err != nil {
				return err
			}
			if c.Bool("dry-run") {
				terminal.Fprintf(c.App.Writer, "remove /dev/mapper/%s\n", args[0])
				return nil
			}
			return cryptsetup.Close(c.Context, args[0])
		},
	}
}
