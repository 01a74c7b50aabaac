package cmd

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

func getCommand() *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "print the value of a key of the merged config", ArgsUsage: "KEY",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "default", Usage: "print `VALUE` if the key has none"},
			&cli.BoolFlag{Name: "check", Usage: "print nothing; exit with 0 if the value exists and is not false, 0 or empty, with 1 otherwise"},
			cmdline.JSONFlag(), configFlag(), offlineFlag(), rootFlag(), cmdline.QuietFlag(),
		},
		Action: get,
	}
}

func get(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "KEY")
	if err != nil {
		return err
	}
	var path tree.Path
	if args[0] != "." { // the whole config
		if path, err = tree.ParsePath(args[0]); err != nil {
			return exit.WithCode(err, exit.Usage)
		}
	}
	config, complete, err := merged(c)
	if err != nil {
		return err
	}
	value := schema.Typed(config).Find(path)
	if c.Bool("check") {
		if !value.Truth() {
			return exit.Silent(exit.Failed)
		}
		return nil
	}
	if value == nil || value.Kind == tree.Null {
		switch {
		case c.IsSet("default"):
		case !complete:
			return fmt.Errorf("no config that could be read has a value for %s", args[0])
		default:
			return exit.WithCode(fmt.Errorf("no config has a value for %s", args[0]), exit.Nothing)
		}
		value = tree.Scalar(c.String("default"), diag.Pos{})
	}
	switch {
	case c.Bool("json"):
		return cmdline.PrintJSON(c, value)
	case value.Scalar():
		_, err = fmt.Fprintln(cmdline.Data(c), value.Text)
	default:
		err = tree.WriteYAML(cmdline.Data(c), value, false)
	}
	return err
}
