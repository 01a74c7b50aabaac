package cmd

import (
	"errors"
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "print the merged config, secrets masked",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "origin", Usage: "print the file and line of each value"},
			&cli.BoolFlag{Name: "reveal", Usage: "print secrets too; for root only"},
			cmdline.JSONFlag(), configFlag(), offlineFlag(), rootFlag(), cmdline.QuietFlag(),
		},
		Action: show,
	}
}

func show(c *cli.Context) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	if c.Bool("reveal") && os.Geteuid() != 0 {
		return exit.WithCode(errors.New("show --reveal is for root only"), exit.Refused)
	}
	config, _, err := merged(c)
	if err != nil {
		return err
	}
	if !c.Bool("reveal") {
		config = mask.Tree(config)
	}
	switch {
	case c.Bool("json") && c.Bool("origin"):
		return cmdline.PrintJSON(c, struct {
			Config  *tree.Node        `json:"config"`
			Origins map[string]string `json:"origins"`
		}{config, config.Origins()})
	case c.Bool("json"):
		return cmdline.PrintJSON(c, config)
	}
	if _, err := fmt.Fprintln(cmdline.Data(c), "#cloud-config"); err != nil {
		return err
	}
	if len(config.Fields) == 0 {
		return nil
	}
	return tree.WriteYAML(cmdline.Data(c), config, c.Bool("origin"))
}
