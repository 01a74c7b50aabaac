package cmd

import (
	"fmt"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/urfave/cli/v2"
)

func schemaCommand() *cli.Command {
	return &cli.Command{
		Name: "schema", Usage: "print the format of configs as a JSON Schema, for editors",
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			text, err := schema.JSONSchema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmdline.Data(c), "%s\n", text)
			return err
		},
	}
}
