package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/urfave/cli/v2"
)

func verifyCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read everything that deployments are made of, and compare it with its digest",
		ArgsUsage: "[ID]",
		Flags:     append(storeFlags(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action:    func(c *cli.Context) error { return verify(c, m) },
	}
}

func verify(c *cli.Context, m machine) error {
	if _, err := cmdline.Arguments(c, "[ID]"); err != nil {
		return err
	}
	n, close, err := m.open(c)
	if err != nil {
		return err
	}
	defer close()
	v, err := n.Verify(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	n.Progress.Close()
	if c.Bool("json") {
		if err := cmdline.PrintJSON(c, v); err != nil {
			return err
		}
	} else {
		for _, id := range v.Incomplete {
			fmt.Fprintf(c.App.Writer, "incomplete deployment %s: it has no boot entry, an interrupted transaction left it; gc removes it\n", id)
		}
		for _, d := range v.Damaged {
			touches := "touches no deployment"
			if len(d.Deployments) > 0 {
				touches = "touches " + strings.Join(d.Deployments, ", ")
			}
			fmt.Fprintf(c.App.Writer, "damaged %s %s: %s (%s)\n", strings.ReplaceAll(d.Kind, "_", " "), d.Name, d.Problem, touches)
		}
		fmt.Fprintf(c.App.Writer, "verified %d deployments: %d images, %d objects, %d boot files, %s\n",
			v.Deployments, v.Images, v.Objects, v.BootFiles, progress.Bytes(v.Bytes))
	}
	if len(v.Damaged) > 0 {
		return damaged(v)
	}
	return nil
}

// damaged is the error of a verification that has found something.
func damaged(v *deploy.Verified) error {
	return cmdline.Hint(errors.New(count(len(v.Damaged), "thing is", "things are")+" damaged"),
		"stage the image again, or roll back to a deployment that is not touched")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
