package cmd

import (
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/fetch"
	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "apply the staged config, or FILE, without a reboot", ArgsUsage: "[FILE...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "now", Usage: "apply the steps, instead of listing them"},
			&cli.DurationFlag{Name: "command-timeout", Value: 10 * time.Minute, Usage: "stop a command after `TIME`; 0 sets no limit"},
			removeFlag(), cmdline.JSONFlag(), cmdline.QuietFlag(),
		},
		Action: apply,
	}
}

func apply(c *cli.Context) error {
	change, err := readChange(c)
	if err != nil {
		return err
	}
	node, close, err := openNode(c)
	if err != nil {
		return err
	}
	defer close()
	next, err := nextConfigs(c, node, change)
	if err != nil {
		return err
	}
	plan, later := stage.Now(source.Collect(node.Root), next, fill(c.Context, node.Root))
	result := stage.Applied{Steps: []stage.StepName{}, Reboot: []stage.StepName{}, Applied: c.Bool("now")}
	for _, s := range plan.Steps {
		result.Steps = append(result.Steps, nameOf(s, ""))
	}
	for _, l := range later {
		result.Reboot = append(result.Reboot, nameOf(l.Step, l.Reason))
	}
	if result.Applied && len(plan.Steps) > 0 {
		system := &stage.System{
			Root: node.Root, Node: true, Booted: true, Timeout: c.Duration("command-timeout"), Log: logger(c),
			Get: fetch.Client{}, KeyServers: keyServers(),
		}
		result.Record = system.Run(c.Context, plan)
	}
	if c.Bool("json") {
		if err := cmdline.PrintJSON(c, result); err != nil {
			return err
		}
	} else {
		printApplied(c, result)
	}
	switch {
	case c.Context.Err() != nil:
		return c.Context.Err()
	case result.Record != nil && result.Record.Outcome == stage.Failed:
		return exit.Hint(fmt.Errorf("apply: some steps failed"), "kairos-config status shows which, and why")
	case len(result.Steps)+len(result.Reboot) == 0:
		return exit.WithCode(fmt.Errorf("nothing to do: all steps are already applied"), exit.Nothing)
	}
	return nil
}

func nameOf(s stage.Step, reason string) stage.StepName {
	return stage.StepName{Stage: s.Part, Name: mask.Text(s.Name), File: s.Source, Line: s.Spec.Pos.Line, Reason: reason}
}

func printApplied(c *cli.Context, r stage.Applied) {
	word := "can be applied now"
	if r.Applied {
		word = "applied"
	}
	for _, s := range r.Steps {
		terminal.Fprintf(c.App.Writer, "%s: %s, %s (%s:%d)\n", word, s.Stage, s.Name, s.File, s.Line)
	}
	for _, s := range r.Reboot {
		terminal.Fprintf(c.App.Writer, "needs a reboot: %s, %s (%s:%d): %s\n", s.Stage, s.Name, s.File, s.Line, s.Reason)
	}
}
