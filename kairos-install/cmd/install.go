package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-install/internal/plan"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// install does the whole installation: checks, plan, question, execution, result.
func install(c *cli.Context, m Machine) error {
	start := time.Now()
	if !m.Admin {
		return exit.Hint(errors.New("the installation needs root, even for a dry run"), "sudo kairos-install …")
	}
	if err := m.Enter(m.Work); err != nil {
		return err
	}
	report := &progress.Reporter{W: c.App.ErrWriter, JSON: c.Bool("json"), Quiet: c.Bool("quiet"), Name: c.App.Name}
	quiet := run.Runner{} // what is asked before the work speaks through errors only

	if c.Bool("interactive") {
		if err := interview(c, m); err != nil {
			return err
		}
	}
	r, err := readRequest(c, m, report)
	if err != nil {
		return err
	}
	if !r.DryRun {
		unlock, err := takeLock(c.Context, m.Lock)
		if err != nil {
			return err
		}
		defer unlock()
		if err := closeLeftovers(c.Context, m, quiet); err != nil {
			return fmt.Errorf("close the volumes of an earlier installation: %w", err)
		}
	}
	p, err := prepare(c.Context, m, r, quiet, report)
	if r.DryRun {
		if err == nil || len(p.Candidates) > 0 {
			err = errors.Join(err, printPlan(c, p))
		}
		return err
	}
	if err != nil {
		return err
	}
	report.Info("installing %s on %s (%s): %s", r.Image, p.Disk.Path, describe(p.Disk), p.Why)
	confirm := consent
	if c.Bool("interactive") {
		if err := printPlan(c, p); err != nil {
			return err
		}
		confirm = theWord
	}
	if err := confirm(c, p); err != nil {
		return err
	}
	result := newResult(p)
	if err := execute(c.Context, m, p, &result, report); err != nil {
		return err
	}
	result.Seconds = progress.Seconds(time.Since(start))
	if err := errors.Join(printResult(c, result), showKey(c, m, r.Encryption)); err != nil {
		return err
	}
	return leave(c, r, quiet, report)
}

// consent asks for consent to erase the disk: by --yes, the config, or an answer on the
// terminal. To erase an existing installation, install.auto is not enough: a node that
// boots its medium again must not be installed again and again.
func consent(c *cli.Context, p *prepared) error {
	asked := terminal.Is(os.Stdin)
	switch {
	case p.Request.Yes, p.Request.Force:
		return nil
	case !asked && p.Contents.Empty():
		return nil
	case !asked && p.Request.Auto && !p.Contents.Installation:
		return nil
	}
	question := fmt.Sprintf("erase everything on %s and install?", p.Disk.Path)
	if p.Contents.Empty() {
		question = fmt.Sprintf("install on %s, which is empty?", p.Disk.Path)
	}
	for _, line := range p.Contents.Lines() {
		terminal.Fprintf(c.App.ErrWriter, "  %s\n", line)
	}
	err := cmdline.Confirm(c, question)
	if err != nil && !asked && p.Contents.Installation {
		return exit.Hint(exit.Usagef("%s has an installation already, and stdin is no terminal to ask on", p.Disk.Path),
			"add --yes, or install.force: true in the config; or remove the medium and reboot into the installed system")
	}
	return err
}

// execute runs the steps.
func execute(ctx context.Context, m Machine, p *prepared, result *Result, report *progress.Reporter) error {
	// The disk may have been taken while somebody thought about the answer.
	again, err := m.Target.Judge(p.Need.Size)
	if err != nil {
		return err
	}
	for _, j := range again {
		if j.Disk.Name == p.Disk.Name && j.Refusal != "" {
			return fmt.Errorf("%s: %s", p.Disk.Path, j.Refusal)
		}
	}
	host := plan.Host{
		Runner: run.Runner{Line: func(program, line string) {
			// What mkfs counts is of interest only when it fails.
			if strings.HasPrefix(program, "kairos-") {
				report.Line(program, line)
			}
		}},
		Disk:   m.Target.Disk,
		Staged: result.staged,
		Warn:   report.Warn,
	}
	e := p.Request.Encryption
	err = plan.Run(ctx, host, p.Steps, report)
	if err != nil {
		if failed := e.Abandon(ctx, run.Runner{}, m.Work); failed != nil {
			report.Warn("some volumes stay open: %v", failed)
		}
	} else if e != nil {
		result.Encrypted, result.RecoveryKeyGiven = e.Volumes, e.Given
		if e.Escrow.Set() && !e.Given {
			report.Warn("the recovery key was not sent to %s: write it down", e.Escrow)
		}
	}
	if errors.Is(err, plan.ErrUnfinished) && exit.HintOf(err) == "" {
		err = exit.Hint(err, "run kairos-install again with --yes: it starts from the beginning")
	}
	return err
}

// leave reboots or powers off.
func leave(c *cli.Context, r request, runner run.Runner, report *progress.Reporter) error {
	verb := ""
	switch {
	case r.Reboot:
		verb = "reboot"
	case r.Poweroff:
		verb = "poweroff"
	default:
		return nil
	}
	if err := written(c, r.Encryption); err != nil {
		return err
	}
	report.Info("installed; %s as asked for", verb)
	if _, err := runner.Output(c.Context, "systemctl", "--no-block", verb); err != nil {
		return fmt.Errorf("installed, but cannot %s: %w", verb, err)
	}
	return nil
}

func printResult(c *cli.Context, result Result) error {
	if c.Bool("json") {
		return cmdline.PrintJSON(c, result)
	}
	if c.Bool("quiet") {
		return nil
	}
	_, err := terminal.Fprintf(c.App.Writer, "installed %s on %s as deployment %s in %.0f s\n",
		cmp.Or(result.Deployment.Reference, result.Image.Source), result.Device, result.Deployment.ID, result.Seconds)
	return err
}
