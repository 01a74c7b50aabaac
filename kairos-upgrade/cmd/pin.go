package cmd

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func pinCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "pin",
		Usage:     "keep a deployment until it is unpinned",
		ArgsUsage: "ID",
		Flags:     append(storeFlags(), cmdline.WaitFlag(), cmdline.QuietFlag()),
		Action:    func(c *cli.Context) error { return pin(c, m, true) },
	}
}

func unpinCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "unpin",
		Usage:     "let garbage collection remove a pinned deployment",
		ArgsUsage: "ID",
		Flags:     append(storeFlags(), cmdline.WaitFlag(), cmdline.QuietFlag()),
		Action:    func(c *cli.Context) error { return pin(c, m, false) },
	}
}

func pin(c *cli.Context, m machine, pinned bool) error {
	args, err := cmdline.Arguments(c, "ID")
	if err != nil {
		return err
	}
	return m.with(c, Change(c.Command.Name).on(args[0]), func(n *deploy.Node) error {
		d, err := pinOn(n, args[0], pinned)
		if err == nil {
			terminal.Fprintf(c.App.Writer, "%sned %s\n", c.Command.Name, d.ID)
		}
		return err
	})
}

func pinOn(n *deploy.Node, id string, pinned bool) (*deploy.Deployment, error) {
	verb := "pin"
	if !pinned {
		verb = "unpin"
	}
	d, changed, err := n.Pin(id, pinned)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", verb, err)
	case !changed:
		return nil, exit.WithCode(fmt.Errorf("deployment %s is %sned already", d.ID, verb), exit.Nothing)
	}
	return d, nil
}
