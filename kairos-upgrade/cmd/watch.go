package cmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func watchCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "follow the running transaction to its end",
		Flags: append(storeFlags(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			return watch(c, m)
		},
	}
}

// watch ends with the exit status of what it follows.
func watch(c *cli.Context, m machine) error {
	n, close, err := m.open(c)
	if err != nil {
		return err
	}
	board := m.board(n.Store)
	state := board.Running(n.Store)
	close()
	if state == nil {
		return exit.WithCode(errors.New("no transaction is running"), exit.Nothing)
	}
	bar := progress.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	var failed error
	last, err := board.Follow(c.Context, *state, func(s transaction.State) {
		if c.Bool("json") {
			failed = errors.Join(failed, cmdline.PrintJSON(c, s))
		} else if s.Phase != "" && !s.Completed {
			bar.Show(s.Progress)
		}
	})
	bar.Close()
	what := strings.TrimSpace(last.Operation + " " + last.Reference)
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("watch %s: %w", what, err)
	}
	if err := last.Err(); err != nil || c.Bool("json") || c.Bool("quiet") {
		return err
	}
	_, err = terminal.Fprintf(c.App.Writer, "%s: done\n", what)
	return err
}
