package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func recoverCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "in the recovery system: repair the installed system if upgrade.conf allows it, and boot it",
		Flags: append(append(storeFlags(), sourceFlags()...),
			&cli.BoolFlag{Name: "force", Usage: "ignore upgrade.conf, and the number of attempts"},
			cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			if c.Bool("recovery") {
				return exit.Usagef("--recovery: this command repairs the installed system")
			}
			return m.recover(c)
		},
	}
}

// recovered is the object that recover --json prints.
type recovered struct {
	Repaired int    `json:"repaired"` // things
	From     string `json:"from"`     // id of what is deployed once more, "recovery" for that system's own image
	Reason   string `json:"reason"`   // why that
	ID       string `json:"id"`       // of the new deployment, "" in a dry run
	Attempt  int    `json:"attempt"`  // from 1
}

func (m machine) recover(c *cli.Context) error {
	booted, err := deployment.ReadBooted(m.booted)
	if err != nil {
		return err
	}
	if booted.Mode != deployment.Recovery {
		return exit.WithCode(errors.New("nothing to do: this is not the recovery system"), exit.Nothing)
	}
	config, err := automation.Load(m.root)
	switch {
	case err != nil:
		return m.notify(c, err)
	case !config.Recovery.Repair && !c.Bool("force"):
		return exit.Hint(exit.WithCode(errors.New("nothing to do: Repair=no"), exit.Nothing),
			"Repair= of section [Recovery] in /etc/kairos/upgrade.conf turns it on: kairos-upgrade.conf(5); --force does it now")
	}
	var done recovered
	err = m.with(c, changeUnless(c.Bool("dry-run"), "recover").creating(), func(n *deploy.Node) error {
		r := revival{machine: m, node: n, own: booted.ImageDigest, limit: config.Recovery.Attempts, unverified: config.AllowUnverified}
		return r.run(c, &done)
	})
	if err != nil {
		return m.notify(c, err)
	}
	if c.Bool("json") {
		err = cmdline.PrintJSON(c, done)
	} else {
		printRecovered(c.App.Writer, done)
	}
	if err != nil || c.Bool("dry-run") {
		return err
	}
	return m.reboot(c.Context)
}

// revival is one recovery of the installed system.
type revival struct {
	machine
	node  *deploy.Node
	own   string // digest of the image that runs
	limit int    // attempts
	// unverified is AllowUnverified= of the settings.
	unverified bool
}

func (r revival) run(c *cli.Context, done *recovered) error {
	dryRun := c.Bool("dry-run")
	attempts, err := r.attempts()
	if err != nil {
		return err
	}
	if attempts.Count >= r.limit && !c.Bool("force") {
		err := fmt.Errorf("the installed system was already repaired %s, and does not boot", count(attempts.Count, "time", "times"))
		return exit.Hint(exit.WithCode(err, exit.Refused), "kairos-boot-assess history shows why; kairos-upgrade recover --force tries again")
	}
	done.Attempt = attempts.Count + 1
	repaired, err := r.repair(c, r.node, dryRun)
	if err != nil {
		return err
	}
	r.node.Progress.Close()
	r.report(r.node, &repaired.Verified, repaired)
	done.Repaired = len(repaired.Mended)
	choice, err := r.node.Revive(repaired, r.own)
	if err != nil {
		return withFailures(err, repaired)
	}
	done.From, done.Reason = "recovery", choice.Reason
	if choice.To != nil {
		done.From = choice.To.ID
	}
	if dryRun {
		return nil
	}
	// Counted before it can boot: a power cut may cost an attempt, never add one.
	before := attempts
	attempts = repairs{Count: done.Attempt}
	if err := r.writeAttempts(attempts); err != nil {
		return err
	}
	own := deploy.Request{Source: "store:" + r.store, Options: r.sourceOptions(c), Origin: "recover", AllowUnverified: r.unverified}
	if done.ID, err = r.node.Deploy(c.Context, choice, own); err != nil {
		return errors.Join(withFailures(err, repaired), r.writeAttempts(before)) // nothing new boots
	}
	attempts.Deployment = done.ID
	if err := r.writeAttempts(attempts); err != nil {
		return err
	}
	r.writeJournal(r.node.Log, journal.Entry{
		MessageID: journal.Recovered, Priority: 4, Message: fmt.Sprintf("recovered: deployed %s from %s: %s", done.ID, done.From, done.Reason),
		Fields: map[string]string{"KAIROS_DEPLOYMENT": done.ID, "KAIROS_REASON": done.Reason},
	})
	return nil
}

// withFailures adds to an error why something could not be repaired.
func withFailures(err error, r *deploy.Repaired) error {
	for _, d := range r.Damaged {
		if d.Failure != "" {
			return fmt.Errorf("%w; %s %s could not be repaired: %s", err, thing(d.Kind), d.Name, d.Failure)
		}
	}
	return err
}

// repairs is what is remembered of repairs, on the ESP: the store may be lost.
type repairs struct {
	Count      int    `json:"count"`      // in a row
	Deployment string `json:"deployment"` // id of the last one, "" when it was cut
}

// repairsFile is where the boot loader keeps it.
const repairsFile = "repairs.json"

// attempts returns how many repairs in a row were of no use. One whose
// deployment was found good, or has been superseded since, ends the row. What
// can't be read counts as none: it was torn by something else than a repair,
// which is written in one step.
func (r revival) attempts() (a repairs, err error) {
	data, err := r.node.Loader.Kept(repairsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return a, fmt.Errorf("read the record of repairs: %w", err)
	}
	if err := json.Unmarshal(data, &a); err != nil || a.Count < 0 {
		r.node.Log.Warn("the record of repairs is damaged", "error", err)
		return repairs{}, nil
	}
	if a.Deployment == "" {
		return a, nil
	}
	have, err := r.node.Inventory()
	if err != nil {
		return a, err
	}
	for _, d := range have.Deployments {
		if d.ID == a.Deployment && d.State != deploy.Good {
			return a, nil
		}
	}
	return repairs{}, nil
}

func (r revival) writeAttempts(a repairs) error {
	data, err := json.Marshal(a)
	if err == nil {
		err = r.node.Loader.Keep(repairsFile, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("record the repair: %w", err)
	}
	return nil
}

// notify shows on consoles and at logins why the node stays in recovery, and
// returns the error.
func (m machine) notify(c *cli.Context, err error) error {
	err = explain(err)
	if exit.Code(err) == exit.Nothing || c.Bool("dry-run") {
		return err
	}
	text := fmt.Sprintf("\nThe installed system was not repaired: %s\n", err)
	if hint := exit.HintOf(err); hint != "" {
		text += "hint: " + hint + "\n"
	}
	text = strings.Map(plainNotice, text)
	for _, name := range m.notices {
		errNotice := os.MkdirAll(filepath.Dir(name), 0o755)
		if errNotice == nil {
			errNotice = os.WriteFile(name, []byte(text+"\n"), 0o644)
		}
		if errNotice != nil {
			err = errors.Join(err, errNotice)
		}
	}
	return err
}

// plainNotice drops what a terminal, or agetty(8) with its backslashes, would
// take for more than text: an error tells what a registry or a file has said.
func plainNotice(r rune) rune {
	if r == '\\' || r != '\n' && !unicode.IsGraphic(r) {
		return '?'
	}
	return r
}

func printRecovered(w io.Writer, r recovered) {
	from := r.From
	if from == "recovery" {
		from = "the recovery system's own image"
	}
	if r.ID == "" {
		terminal.Fprintf(w, "1. repair %s\n2. deploy %s once more: %s\n3. reboot\n", count(r.Repaired, "thing", "things"), from, r.Reason)
		return
	}
	terminal.Fprintf(w, "repaired %s\ndeployed %s from %s: %s\n", count(r.Repaired, "thing", "things"), r.ID, from, r.Reason)
}
