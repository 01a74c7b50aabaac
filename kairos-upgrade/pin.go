package main

import (
	"fmt"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/urfave/cli/v2"
)

func pinCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "pin",
		Usage:     "keep a deployment until it is unpinned",
		ArgsUsage: "ID",
		Flags:     append(storeFlags(), cmdline.QuietFlag()),
		Action:    func(c *cli.Context) error { return pin(c, m, true) },
	}
}

func unpinCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "unpin",
		Usage:     "let a pinned deployment be collected when it is not needed",
		ArgsUsage: "ID",
		Flags:     append(storeFlags(), cmdline.QuietFlag()),
		Action:    func(c *cli.Context) error { return pin(c, m, false) },
	}
}

func pin(c *cli.Context, m machine, pinned bool) error {
	args, err := cmdline.Arguments(c, "ID")
	if err != nil {
		return err
	}
	n, close, err := m.open(c, c.Command.Name, args[0])
	if err != nil {
		return err
	}
	defer close()
	d, changed, err := n.Pin(args[0], pinned)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", c.Command.Name, err)
	case !changed:
		return cmdline.WithCode(fmt.Errorf("deployment %s is %sned already", d.ID, c.Command.Name), cmdline.ExitNothing)
	}
	fmt.Fprintf(c.App.Writer, "%sned %s\n", c.Command.Name, d.ID)
	return nil
}
