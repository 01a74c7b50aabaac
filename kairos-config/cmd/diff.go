package cmd

import (
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/kairos-config/internal/compare"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/staging"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "show what the staged config changes, or what FILE would change", ArgsUsage: "[FILE...]",
		Flags: []cli.Flag{removeFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()},
		Action: func(c *cli.Context) error {
			change, err := readChange(c)
			if err != nil {
				return err
			}
			return showDiff(c, change)
		},
	}
}

func showDiff(c *cli.Context, change staging.Change) error {
	node, close, err := openNode(c)
	if err != nil {
		return err
	}
	defer close()
	result, err := diff(c, node, change)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, result)
	}
	return printDiff(c.App.Writer, result)
}

// diff compares the running config with the next one and a change to it.
func diff(c *cli.Context, node *staging.Node, change staging.Change) (compare.Result, error) {
	next, err := nextConfigs(c, node, change)
	if err != nil {
		return compare.Result{}, err
	}
	return compare.Collections(source.Collect(node.Root), next, fill(c.Context, node.Root)), nil
}

// nextConfigs returns the configs of the next boot, with a change.
func nextConfigs(c *cli.Context, node *staging.Node, change staging.Change) (*source.Collection, error) {
	base, err := node.Base(c.Context)
	if err != nil {
		return nil, err
	}
	return source.CollectWith(node.Root, source.OEM{Generation: base, Put: change.Put, Remove: change.Remove}), nil
}

func printDiff(w io.Writer, r compare.Result) error {
	if r.None() {
		_, err := fmt.Fprintln(w, "no changes")
		return err
	}
	for _, part := range []struct {
		title string
		list  []compare.Change
	}{{"values", r.Values}, {"on the node", r.Files}} {
		if len(part.list) == 0 {
			continue
		}
		terminal.Fprintln(w, part.title+":")
		for _, change := range part.list {
			if _, err := terminal.Fprintln(w, "  "+line(change)); err != nil {
				return err
			}
		}
	}
	return nil
}

// line formats a change: + for added, - for removed, ~ for changed.
func line(c compare.Change) string {
	switch {
	case c.Before == "":
		return fmt.Sprintf("+ %s: %s  # %s", c.Key, c.After, c.Origin)
	case c.After == "":
		return fmt.Sprintf("- %s: %s  # %s", c.Key, c.Before, c.Origin)
	case c.Before == c.After:
		return fmt.Sprintf("~ %s: %s, changed  # %s", c.Key, c.After, c.Origin)
	}
	return fmt.Sprintf("~ %s: %s -> %s  # %s", c.Key, c.Before, c.After, c.Origin)
}
