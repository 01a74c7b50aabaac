package cmd

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-media/internal/medium"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func editCommand() *cli.Command {
	return &cli.Command{
		Name:      "edit",
		Usage:     "change the configs and kernel arguments of a medium in place",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "config", Usage: "add the cloud-config `FILE`, or replace the one of that name; repeatable"},
			&cli.StringSliceFlag{Name: "karg", Usage: "add the kernel `ARGUMENT`; repeatable"},
			&cli.BoolFlag{Name: "clear", Usage: "first remove all configs, and the kernel arguments that edit has added"},
			cmdline.DryRunFlag(), cmdline.JSONFlag(), cmdline.QuietFlag(),
		},
		Action: edit,
	}
}

func edit(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "FILE")
	if err != nil {
		return err
	}
	change := medium.Change{Clear: c.Bool("clear"), Kargs: c.StringSlice("karg")}
	if err := checkKargs(change.Kargs); err != nil {
		return err
	}
	if !change.Clear && len(change.Kargs)+len(c.StringSlice("config")) == 0 {
		return exit.Usagef("nothing to change: --config, --karg or --clear")
	}
	if change.Configs, err = configs(c, c.StringSlice("config"), false); err != nil {
		return err
	}
	m, err := open(c, args[0], os.O_RDWR)
	if err != nil {
		return err
	}
	defer m.Close()
	if c.Bool("dry-run") {
		return planEdit(c, m, change)
	}
	e, err := m.Edit(c.Context, change)
	if err != nil {
		return fmt.Errorf("edit %s: %w", args[0], err)
	}
	return result(c, e, func() {
		if len(e.Configs) > 0 {
			line(c, "configs", "%s", strings.Join(e.Configs, ", "))
		}
		if e.Kargs != "" {
			line(c, "arguments", "%s", e.Kargs)
		}
		terminal.Fprintf(c.App.Writer, "%s\n", e.Digest)
	})
}

// edits is the answer of edit under --dry-run --json.
type edits struct {
	File  string   `json:"file"`
	Steps []string `json:"steps"`
}

func planEdit(c *cli.Context, m *medium.Medium, change medium.Change) error {
	plan := edits{File: m.Path}
	if change.Clear && len(m.Configs) > 0 {
		plan.Steps = append(plan.Steps, "remove the configs "+strings.Join(m.Configs, ", "))
	}
	if change.Clear && m.Kargs() != "" {
		plan.Steps = append(plan.Steps, "remove the kernel arguments "+m.Kargs())
	}
	for _, name := range slices.Sorted(maps.Keys(change.Configs)) {
		plan.Steps = append(plan.Steps, "write the config "+name)
	}
	if len(change.Kargs) > 0 {
		plan.Steps = append(plan.Steps, "add the kernel arguments "+strings.Join(change.Kargs, " "))
	}
	plan.Steps = append(plan.Steps, "update "+medium.ManifestPath(m.Path)+", if it is there")
	return result(c, plan, func() {
		for i, step := range plan.Steps {
			terminal.Fprintf(c.App.Writer, "%d. %s\n", i+1, step)
		}
	})
}
