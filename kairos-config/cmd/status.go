package cmd

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/cmdline"
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
	if c.Bool("json") {
		if records == nil {
			records = []stage.Record{}
		}
		return cmdline.PrintJSON(c, struct {
			Stages []stage.Record `json:"stages"`
		}{records})
	}
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

func printRecord(w *tabwriter.Writer, r stage.Record) {
	outcome := string(r.Outcome)
	if r.HardFailed {
		outcome += " (strict)"
	}
	fmt.Fprintf(w, "%s\t\t\t%s\t%s\t\n", r.Stage, outcome, milliseconds(r.DurationMS))
	for _, p := range r.Problems {
		printProblem(w, p)
	}
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s:%d\t%s\t%s\t%d\n", s.Stage, s.Name, s.File, s.Line, s.Outcome, milliseconds(s.DurationMS), len(s.Changed))
		if s.Reason != "" {
			fmt.Fprintf(w, "  %s\n", s.Reason)
		}
		for _, e := range s.Errors {
			fmt.Fprintf(w, "  %s\n", e)
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
	fmt.Fprintf(w, "  %s:%d: %s: %s%s\n", p.File, p.Line, p.Severity, p.Message, hint)
}

func milliseconds(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }
