package cmd

import (
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/lib/report/boots"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func goodCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "good",
		Usage: "mark this boot good, and remove the counters from its entry",
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			boot, err := node.MarkGood(c.Context)
			if err != nil {
				return err
			}
			return printLine(c, "This boot of %s is good, its entry has no counters", named(boot))
		},
	}
}

func blessCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "bless",
		Usage: "remove the counters from the entry of this boot (run by systemd)",
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			boot, changed, err := node.Bless(c.Context)
			if err != nil {
				return err
			}
			if !changed {
				return printLine(c, "Nothing to bless: this boot of %s is not on trial", named(boot))
			}
			return printLine(c, "The entry of %s has no counters any more", named(boot))
		},
	}
}

func badCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:      "bad",
		Usage:     "mark this boot bad: the next one falls back",
		ArgsUsage: "[REASON]",
		Action: func(c *cli.Context) error {
			words, err := cmdline.Arguments(c, "[REASON...]")
			if err != nil {
				return err
			}
			boot, err := node.MarkBad(c.Context, strings.Join(words, " "))
			if err != nil {
				return err
			}
			return printLine(c, "This boot of %s is bad, the next one is of %s", named(boot), boot.Trial.Alternative)
		},
	}
}

func rearmCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "rearm",
		Usage: "put the next boots of the running deployment on trial again",
		Flags: []cli.Flag{&cli.IntFlag{Name: "tries", Value: 3, Usage: fmt.Sprintf("give it `N` tries, 1 to %d", assess.MaxTries)}},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			boot, err := node.Rearm(c.Context, c.Int("tries"))
			if err != nil {
				return err
			}
			return printLine(c, "The next boots of %s are on trial, it has %d tries", named(boot), c.Int("tries"))
		},
	}
}

func named(b history.Boot) string { return boots.Named(b.Deployment, b.Version) }

func printLine(c *cli.Context, format string, args ...any) error {
	_, err := terminal.Fprintf(c.App.Writer, format+"\n", args...)
	return err
}
