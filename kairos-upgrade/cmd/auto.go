package cmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/mask"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func autoCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "auto",
		Usage: "look for an upgrade, stage it and reboot, as configured in upgrade.conf",
		Flags: append(sourceFlags(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			return auto(c, m)
		},
	}
}

// auto does what the settings say. What keeps it from that is noted, for status.
func auto(c *cli.Context, m machine) error {
	config, err := automation.Load(m.root)
	if err == nil {
		err = m.automate(c, config)
	}
	err = explain(err)
	if err == nil || exit.Code(err) == exit.Nothing || exit.Code(err) == exit.Interrupted || c.Bool("dry-run") {
		return err
	}
	d := &automation.Decision{Checked: m.now().UTC().Truncate(time.Second), Mode: config.Mode, Action: automation.None,
		Code: exit.ReasonOf(err), Reason: "it failed", Error: mask.Message(err.Error())}
	return errors.Join(err, m.writeDecision(d))
}

func (m machine) automate(c *cli.Context, config automation.Config) error {
	if config.Mode == automation.Off {
		return exit.Hint(exit.WithCode(errors.New("nothing to do: Mode=off"), exit.Nothing),
			"Mode= in /etc/kairos/upgrade.conf turns it on: kairos-upgrade.conf(5)")
	}
	d, err := m.decide(c, config)
	if err != nil {
		return err
	}
	if !c.Bool("dry-run") {
		if err := m.writeDecision(d); err != nil {
			return err
		}
		if err := m.carryOut(c, config, d); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		if err := cmdline.PrintJSON(c, d); err != nil {
			return err
		}
	}
	if d.Action == automation.None || d.Action == automation.Hold {
		return exit.WithCode(exit.Reason(errors.New("nothing to do: "+d.Reason), d.Code), exit.Nothing)
	}
	if c.Bool("json") {
		return nil
	}
	printDecision(c.App.Writer, d)
	return nil
}

func (m machine) decide(c *cli.Context, config automation.Config) (*automation.Decision, error) {
	n, close, err := m.open(c)
	if err != nil {
		return nil, err
	}
	defer close()
	f := automation.Follower{Node: n, Config: config, Source: m.sourceOptions(c)}
	return f.Decide(c.Context, m.now())
}

// carryOut does what was decided.
func (m machine) carryOut(c *cli.Context, config automation.Config, d *automation.Decision) error {
	if d.Action == automation.Fetch {
		id, err := m.stageUpdate(c, config, d.Update)
		if err != nil {
			return err
		}
		d.Staged, d.Reason = id, "it boots next"
		if err := m.writeDecision(d); err != nil {
			return err
		}
		if config.Mode != automation.Apply {
			return nil
		}
		d.Action, d.Reason = automation.Reboot, "it is staged"
	}
	if d.Action == automation.Reboot {
		return m.bootUpdate(c, config, d)
	}
	return nil
}

// stageUpdate stages exactly what was decided upon: a tag that has moved on
// since then is looked at again the next time.
func (m machine) stageUpdate(c *cli.Context, config automation.Config, o *deploy.Offer) (id string, err error) {
	var hooks asked
	if m.root == "/" {
		hooks = hooksOfNode(c.Context)
	}
	if err := hooks.hook(c.Context, "before-upgrade"); err != nil {
		return "", err
	}
	err = m.with(c, Change("auto").on(o.Reference), func(n *deploy.Node) error {
		options := m.sourceOptions(c)
		options.InsecureRegistry = o.InsecureRegistry
		staged, err := n.Stage(c.Context, deploy.Request{
			Source: o.Reference, Options: options, ManifestDigest: o.ManifestDigest, Origin: automation.Origin,
			AllowUnverified: config.AllowUnverified,
		})
		if err != nil {
			return err
		}
		id = staged.ID
		m.writeJournal(n.Log, journal.Entry{
			MessageID: journal.Update, Priority: 6, Message: fmt.Sprintf("staged %s: %s, boots next", id, deploy.Title(staged.Record)),
			Fields: map[string]string{"KAIROS_ACTION": "stage", "KAIROS_DEPLOYMENT": id, "KAIROS_REFERENCE": o.Reference},
		})
		return nil
	})
	if err == nil {
		err = hooks.hook(c.Context, "after-upgrade")
	}
	return id, err
}

// bootUpdate announces the reboot, waits, and reboots, if the window is still
// open then and the update still what boots next. Whoever objects stops the
// service.
func (m machine) bootUpdate(c *cli.Context, config automation.Config, d *automation.Decision) error {
	log := logline.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	at := m.now().Add(config.RebootDelay)
	message := fmt.Sprintf("reboots at %s into %s (%s)", at.Format(time.TimeOnly), d.Staged, d.Update.Reference)
	m.writeJournal(log, journal.Entry{
		MessageID: journal.Update, Priority: 5, Message: message,
		Fields: map[string]string{"KAIROS_ACTION": "reboot", "KAIROS_DEPLOYMENT": d.Staged, "KAIROS_REFERENCE": d.Update.Reference},
	})
	log.Warn(message + "; systemctl stop kairos-upgrade.service stops it")
	sdnotify.Status("%s", message)
	select {
	case <-c.Context.Done():
		return c.Context.Err()
	case <-time.After(config.RebootDelay):
	}
	now, err := m.decideAgain(c, config, d)
	if err != nil {
		return err
	}
	if now != "" {
		return exit.WithCode(fmt.Errorf("not rebooted: %s", now), exit.Nothing)
	}
	return m.reboot(c.Context)
}

// decideAgain says why the reboot is off, "" if it isn't.
func (m machine) decideAgain(c *cli.Context, config automation.Config, d *automation.Decision) (why string, err error) {
	if !config.Windows.Contains(m.now()) {
		return "the window has closed", nil
	}
	n, close, err := m.open(c)
	if err != nil {
		return "", err
	}
	defer close()
	have, err := n.Inventory()
	if err := errors.Join(err, have.Complete()); err != nil {
		return "", err
	}
	if next := have.Roles().Next; next == nil || next.ID != d.Staged {
		return d.Staged + " does not boot next any more", nil
	}
	if busy := n.Store.Busy(); busy != nil {
		return "in progress: " + busy.String(), nil
	}
	return "", nil
}

// noteFile is where the last decision is kept until the next boot.
const noteFile = "available.json"

// writeDecision keeps a decision for status.
func (m machine) writeDecision(d *automation.Decision) error {
	if err := os.MkdirAll(m.run, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(m.run)
	if err != nil {
		return err
	}
	defer root.Close()
	return atomicfile.WriteJSON(root, noteFile, d, 0o644)
}

// readDecision returns the last decision, nil when there was none.
func (m machine) readDecision() (*automation.Decision, error) {
	d, err := report.Read[*automation.Decision](m.run, noteFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return d, err
}

func printDecision(w io.Writer, d *automation.Decision) {
	printOffer(w, d.Update, d.Staged)
	terminal.Fprintf(w, "%s: %s\n", map[automation.Action]string{
		automation.None: "nothing is done", automation.Tell: "left to you", automation.Wait: "waits",
		automation.Fetch: "stage", automation.Reboot: "reboot",
	}[d.Action], d.Reason)
}

func printOffer(w io.Writer, o *deploy.Offer, staged string) {
	terminal.Fprintf(w, "update %s%s\n  %s\n", o.Reference, inBrackets(o.Version), o.ManifestDigest)
	if staged != "" {
		terminal.Fprintf(w, "  staged: %s\n", staged)
		return
	}
	terminal.Fprintf(w, "  to fetch: at most %s in %d of %d layers\n", terminal.Bytes(o.BytesToFetch), o.Layers-o.LayersKnown, o.Layers)
	if o.Downgrade {
		terminal.Fprintf(w, "  a downgrade: from version %s\n", o.FromVersion)
	}
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}
