package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

// historyResult is the result of history --json.
type historyResult struct {
	Persistent bool            `json:"persistent"` // whether it outlives a reboot
	Boots      []history.Boot  `json:"boots"`      // newest first
	Fallbacks  []history.Event `json:"fallbacks"`  // newest first
}

func historyCommand(node *assess.Node) *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "list boots, their verdicts and fallbacks, newest first",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "number", Aliases: []string{"n"}, Value: 20, Usage: "list at most `N` boots, 0 for all"},
			cmdline.JSONFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			limit := c.Int("number")
			if limit < 0 {
				return cmdline.Usagef("--number %d: less than nothing", limit)
			}
			boots, fallbacks, lasting, err := node.History()
			if err != nil {
				return err
			}
			r := newest(historyResult{lasting, boots, fallbacks}, limit)
			if c.Bool("json") {
				return cmdline.PrintJSON(c, r)
			}
			return printHistory(c.App.Writer, r)
		},
	}
}

// newest returns the newest boots, newest first, and the fallbacks since the
// oldest of them.
func newest(r historyResult, limit int) historyResult {
	out := historyResult{Persistent: r.Persistent, Boots: []history.Boot{}, Fallbacks: []history.Event{}}
	for i := len(r.Boots) - 1; i >= 0 && (limit == 0 || len(out.Boots) < limit); i-- {
		out.Boots = append(out.Boots, r.Boots[i])
	}
	all := len(out.Boots) == len(r.Boots)
	for i := len(r.Fallbacks) - 1; i >= 0; i-- {
		f := r.Fallbacks[i]
		if all || !f.Time.Before(out.Boots[len(out.Boots)-1].Started) {
			out.Fallbacks = append(out.Fallbacks, f)
		}
	}
	return out
}
