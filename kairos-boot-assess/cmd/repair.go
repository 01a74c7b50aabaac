package cmd

import (
	"cmp"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/entries"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func repairCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "repair",
		Usage: "repair boot entries that conflict or lack their files",
		Flags: []cli.Flag{cmdline.DryRunFlag(), cmdline.JSONFlag()},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			r, err := node.Repair(c.Context, c.Bool("dry-run"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = cmdline.PrintJSON(c, r)
			} else {
				err = printRepair(c.App.Writer, r)
			}
			return cmp.Or(r.Failed, err)
		},
	}
}

// words describe an action, before and after it.
var words = map[entries.Action][2]string{
	entries.Renew:   {"would write it again", "written again"},
	entries.Restore: {"would write its boot files again", "its boot files were written again"},
	entries.Remove:  {"would remove it", "removed"},
	entries.Keep:    {"would keep it", "kept: it is running, or there is nothing else to fall back to"},
	entries.Collect: {"left to kairos-upgrade gc", "left to kairos-upgrade gc"},
}

func printRepair(w io.Writer, r assess.Repair) error {
	if len(r.Problems) == 0 {
		_, err := fmt.Fprintln(w, "The boot entries are consistent")
		return err
	}
	p := newPage()
	for _, problem := range r.Problems {
		did := words[problem.Action][1]
		switch {
		case r.DryRun:
			did = words[problem.Action][0]
		case problem.Error != "":
			did = "not repaired"
		}
		p.line("%s\t%s", problem, did)
	}
	return p.writeTo(w)
}
