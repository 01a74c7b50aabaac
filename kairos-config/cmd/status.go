package cmd

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/kairos-config/internal/staging"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "print what the stages of this boot did",
		Flags:  []cli.Flag{cmdline.JSONFlag(), rootFlag()},
		Action: status,
	}
}

func status(c *cli.Context) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	root, err := rootfs.Open(c.String("root"))
	if err != nil {
		return err
	}
	defer root.Close()
	records, err := stage.Records(root)
	if err != nil {
		return err
	}
	configs := generations(c, root)
	if c.Bool("json") {
		if records == nil {
			records = []stage.Record{}
		}
		return cmdline.PrintJSON(c, struct {
			Stages []stage.Record `json:"stages"`
			Config staging.State  `json:"config"`
		}{records, configs})
	}
	printGenerations(c.App.Writer, configs)
	if len(records) == 0 {
		_, err := fmt.Fprintln(c.App.Writer, "no stage has run in this boot")
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STAGE\tSTEP\tFILE\tOUTCOME\tTIME\tCHANGED")
	for _, r := range records {
		printRecord(w, r)
	}
	return w.Flush()
}

// generations returns the state of the generations. It logs what cannot be determined
// and returns the rest.
func generations(c *cli.Context, root *rootfs.Root) staging.State {
	var upgrade staging.Upgrade
	if root.Path() == "/" && os.Geteuid() == 0 {
		upgrade = staging.Command{}
	}
	state, err := staging.Read(c.Context, root, upgrade)
	if err != nil {
		logger(c).Warn(exit.Message(err))
	}
	return state
}

func printGenerations(w io.Writer, s staging.State) {
	for _, g := range s.Generations {
		names := make([]string, len(g.Files))
		for i, f := range g.Files {
			names[i] = f.Name
		}
		terminal.Fprintf(w, "generation %s, %s: %s (%s)\n", g.ID, g.State, strings.Join(names, " "), terminal.Time(g.Created))
		if g.Reason != "" {
			terminal.Fprintf(w, "  %s\n", g.Reason)
		}
	}
}

func printRecord(w *tabwriter.Writer, r stage.Record) {
	outcome := string(r.Outcome)
	if r.HardFailed {
		outcome += " (strict)"
	}
	terminal.Fprintf(w, "%s\t\t\t%s\t%s\t\n", r.Stage, outcome, milliseconds(r.DurationMS))
	for _, p := range r.Problems {
		printProblem(w, p)
	}
	for _, s := range r.Steps {
		terminal.Fprintf(w, "%s\t%s\t%s:%d\t%s\t%s\t%d\n", s.Stage, s.Name, s.File, s.Line, s.Outcome, milliseconds(s.DurationMS), len(s.Changed))
		if s.Reason != "" {
			terminal.Fprintf(w, "  %s\n", s.Reason)
		}
		for _, e := range s.Errors {
			terminal.Fprintf(w, "  %s\n", e)
		}
		for _, p := range s.Problems {
			printProblem(w, p)
		}
	}
}

func printProblem(w *tabwriter.Writer, p stage.ProblemRecord) {
	hint := ""
	if p.Hint != "" {
		hint = " (" + p.Hint + ")"
	}
	terminal.Fprintf(w, "  %s:%d: %s: %s%s\n", p.File, p.Line, p.Severity, p.Message, hint)
}

func milliseconds(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }
