package cmd

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-reset/internal/request"
	"github.com/kairos-io/toolkit/kairos-reset/internal/settings"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kernelargs"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/urfave/cli/v2"
)

// execute resets the node. It runs only in the recovery system, and only in a boot for
// the reset.
func execute(c *cli.Context, m Machine) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	booted, err := deployment.ReadBooted(m.Booted)
	if err != nil {
		return err
	}
	if booted.Mode != deployment.Recovery || !m.forReset() {
		return exit.Hint(errors.New("this boot was not started for a reset"), "kairos-reset arms a reset")
	}
	esp, err := m.open()
	if err != nil {
		return err
	}
	defer esp.Root.Close()
	r, err := esp.Read()
	if errors.Is(err, request.ErrNone) {
		return exit.WithCode(err, exit.Nothing)
	}
	if err != nil {
		return exit.Hint(err, "run kairos-reset cancel, or arm the reset again")
	}
	if err := m.Enter(m.Work); err != nil {
		return err
	}
	report := &progress.Reporter{W: c.App.ErrWriter, JSON: c.Bool("json"), Quiet: c.Bool("quiet"), Name: c.App.Name}
	n, err := m.node()
	if err != nil {
		return err
	}
	n.ESP, n.Journal, n.Report = esp.Root, esp, report
	runner := run.Runner{Line: func(program, line string) {
		if strings.HasPrefix(program, "kairos-") {
			report.Line(program, line)
		}
	}}
	n.Run, n.Keeper = runner.Output, &keeper{console: m.Console, runner: runner, report: report}
	if n.Kargs, n.Title, err = m.own(c, booted); err != nil {
		report.Warn("the node's own kernel arguments are lost: %v", err)
	}
	n.Volumes = m.volumes()
	for _, s := range n.Steps(r) {
		if !r.Has(s.Phase) {
			report.Steps++
		}
	}
	if r.Begun() {
		report.Info("continuing the reset: the phase %s is done", r.Done)
	}
	if err := n.Reset(c.Context, r); err != nil {
		if exit.HintOf(err) == "" {
			err = exit.Hint(err, "the node stays in the recovery system: systemctl restart kairos-reset-execute.service, or a reboot, continues the reset")
		}
		return err
	}
	if r.PowerOff {
		report.Info("the reset is done; powering off")
		return leave(c, "poweroff")
	}
	report.Info("the reset is done; rebooting")
	return reboot(c)
}

// own returns the node's own kernel arguments and its title for the boot menu, from the
// record of the recovery system, since the erased store loses them. A title in the
// config takes precedence.
func (m Machine) own(c *cli.Context, booted deployment.Booted) (kargs []string, title string, err error) {
	store, err := os.OpenRoot(m.Store)
	if err != nil {
		return nil, "", err
	}
	defer store.Close()
	record, err := deployment.Read(store, booted.ID)
	title = record.NodeTitle
	if configured := settings.Title(c.Context, run.Runner{}); configured != "" {
		title = configured
	}
	return record.NodeOptions, title, err
}

// volumes returns the encrypted volumes that the recovery system's boot entry names.
func (m Machine) volumes() deployment.Volumes {
	data, _ := os.ReadFile(m.Cmdline)
	return deployment.VolumesOf(string(data))
}

// forReset reports whether this boot came from the boot entry of the reset.
func (m Machine) forReset() bool {
	data, err := os.ReadFile(m.Cmdline)
	return err == nil && slices.Contains(slices.Collect(kernelargs.Words(string(data))), request.Argument)
}
