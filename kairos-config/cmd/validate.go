package cmd

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/urfave/cli/v2"
)

func validateCommand() *cli.Command {
	return &cli.Command{
		Name: "validate", Usage: "check configs: syntax, keys and types", ArgsUsage: "FILE...",
		Flags:  []cli.Flag{cmdline.JSONFlag(), cmdline.QuietFlag()},
		Action: validate,
	}
}

func validate(c *cli.Context) error {
	files, err := cmdline.Arguments(c, "FILE...")
	if err != nil {
		return err
	}
	var problems diag.List
	valid := true
	for _, f := range files {
		var file source.Collection
		file.AddFile(f)
		problems = append(problems, file.Problems...)
		for _, doc := range file.Documents {
			problems = append(problems, schema.Check(doc.Root)...)
		}
		valid = valid && file.Skipped == 0 // what the node skips is of no use
	}
	valid = valid && !problems.Failed()
	if c.Bool("json") {
		if err := cmdline.PrintJSON(c, validation{valid, stage.ProblemRecords(problems)}); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			if p.Severity == diag.Error || !c.Bool("quiet") {
				fmt.Fprintln(c.App.ErrWriter, p.Error())
			}
		}
	}
	if !valid {
		return cmdline.Silent(cmdline.ExitFailed)
	}
	return nil
}

type validation struct {
	Valid    bool                  `json:"valid"`
	Problems []stage.ProblemRecord `json:"problems"`
}
