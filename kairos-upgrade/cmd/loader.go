package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/sdboot"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func loaderCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "loader",
		Usage: "upgrade systemd-boot to the version of the running deployment",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "install the boot loader even if it is older, the deployment is on trial, or the installed one is damaged"},
			cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			return loader(c, m)
		},
	}
}

// loaded is the object that loader --json prints.
type loaded struct {
	sdboot.Status          // as it was before
	Steps         []string `json:"steps"` // done, or in a dry run: to be done
}

func loader(c *cli.Context, m machine) error {
	n, close, err := m.open(c)
	if err != nil {
		return err
	}
	l := loaded{Steps: []string{}}
	var steps []sdboot.Step
	err = m.onLoader(n, c.Bool("force"), func(b sdboot.Target) error {
		l.Status, steps, err = b.Steps()
		return err
	})
	close()
	switch {
	case err != nil:
		return err
	case len(steps) == 0:
		return notUpgraded(l.Status)
	case c.Bool("dry-run"):
		for _, s := range steps {
			l.Steps = append(l.Steps, s.Text)
		}
	default:
		err = m.with(c, Change("loader"), func(n *deploy.Node) error {
			return m.onLoader(n, c.Bool("force"), func(b sdboot.Target) error { return m.upgradeLoader(n, b, &l) })
		})
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, l)
	}
	printLoaded(c.App.Writer, l, c.Bool("dry-run"))
	return nil
}

// notUpgraded says why there is nothing to do.
func notUpgraded(s sdboot.Status) error {
	err := exit.WithCode(errors.New("nothing to do: "+s.Reason), exit.Nothing)
	if s.Action == sdboot.Hold {
		return exit.Hint(err, "kairos-upgrade status shows the versions; --force installs the deployment's boot loader nevertheless")
	}
	return err
}

// upgradeLoader does all steps. Where the firmware knows the fallback path
// only, nothing can be tried first: that path follows at once.
func (m machine) upgradeLoader(n *deploy.Node, b sdboot.Target, l *loaded) error {
	for {
		now, steps, err := b.Steps()
		if err != nil || len(steps) == 0 {
			return err
		}
		_, free, err := n.Loader.Space()
		if err != nil {
			return err
		}
		if free < boot.Reserve {
			return exit.WithCode(fmt.Errorf("not enough space on %s for a boot loader", n.Loader.Path()), exit.NoSpace)
		}
		for _, s := range steps {
			if err := s.Do(); err != nil {
				return err
			}
			l.Steps = append(l.Steps, s.Text)
		}
		m.writeJournal(n.Log, journal.Entry{
			MessageID: journal.LoaderNew, Priority: 5, Message: steps[len(steps)-1].Text,
			Fields: map[string]string{"KAIROS_VERSION": now.Available, "KAIROS_FROM": now.Installed},
		})
		b.Force = false // once
	}
}

// onLoader gives the boot loader of the running node to do.
func (m machine) onLoader(n *deploy.Node, force bool, do func(sdboot.Target) error) error {
	if n.Booted.ID == "" || n.Fixed() {
		return exit.WithCode(errors.New("nothing to do: no deployment of this store runs"), exit.Nothing)
	}
	programs := n.Loader.Programs()
	if programs == nil {
		return exit.WithCode(errors.New("nothing to do: the boot loader is not systemd-boot"), exit.Nothing)
	}
	have, err := n.Inventory()
	if err != nil {
		return err
	}
	booted := have.Roles().Booted
	system, err := os.OpenRoot(m.root)
	if err != nil {
		return err
	}
	defer system.Close()
	return do(sdboot.Target{
		ESP: programs, System: system, Vars: m.disks.Vars, Force: force,
		Proven: booted != nil && booted.State == deploy.Good,
	})
}

// loaderOf tells of the boot loader for a status, nil when it is not known.
func (m machine) loaderOf(n *deploy.Node) (s *sdboot.Status) {
	if n.Booted.ID == "" || n.Fixed() {
		return nil
	}
	err := m.onLoader(n, false, func(b sdboot.Target) error {
		have, err := b.Status()
		s = &have
		return err
	})
	if err != nil {
		n.Log.Warn("cannot read the boot loader", "error", err)
		return nil
	}
	return s
}

func printLoaded(w io.Writer, l loaded, dryRun bool) {
	for i, s := range l.Steps {
		if dryRun {
			s = fmt.Sprintf("%d. %s", i+1, s)
		}
		terminal.Fprintln(w, s)
	}
}

// loaderText tells of the boot loader in front of the space that there is.
func loaderText(s *sdboot.Status) string {
	if s == nil || s.Installed == "" {
		return ""
	}
	text := "systemd-boot " + s.Installed
	if s.Running != "" && s.Running != s.Installed {
		text += " (running " + s.Running + ")"
	}
	if s.Fallback != "" && s.Fallback != s.Installed {
		text += ", fallback " + s.Fallback
	}
	if s.Action == sdboot.Install || s.Action == sdboot.Hold {
		text += ", " + s.Available + " waits: " + s.Reason
	}
	return text + "; "
}
