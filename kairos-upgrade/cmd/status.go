package cmd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/sdboot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/mask"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// status is the object that status --json prints.
type status struct {
	report.Upgrade
	Deployments []deployed              `json:"deployments"`
	Recovery    *deploy.Recovery        `json:"recovery"` // null when there is none, or it is this store
	Quarantined []deployment.Quarantine `json:"quarantined"`
	Automation  *automation.Decision    `json:"automation"` // the last decision since the boot, null
	Settings    settings                `json:"settings"`   // of the automation
	Store       storeStatus             `json:"store"`
	Loader      *sdboot.Status          `json:"loader"`   // null when nothing runs from this store
	Busy        *store.Holder           `json:"busy"`     // who changes it now, null
	Progress    *transaction.State      `json:"progress"` // how far that is, null

	next string // what Staged means, for people
}

// deployed is a deployment in a status.
type deployed struct {
	deploy.Deployment
	Usage deploy.Usage `json:"usage"`
	Boots *booted      `json:"boots"` // null when it is not known to have been booted
}

// settings are those of upgrade.conf.
type settings struct {
	Mode      automation.Mode   `json:"mode"`
	Follow    automation.Follow `json:"follow"`
	Reference string            `json:"reference"` // "": where the running deployment came from
	Error     string            `json:"error"`     // why nothing is automated, ""
}

type storeStatus struct {
	Path   string `json:"path"`
	Label  string `json:"label"`
	Verity bool   `json:"verity"`
	Size   int64  `json:"size"` // bytes, of its file system
	Free   int64  `json:"free"` // bytes
	deploy.Totals
}

func statusCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the running deployment, the next one, and all others",
		Flags: append(storeFlags(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			n, close, err := m.open(c)
			if err != nil {
				return err
			}
			defer close()
			s, err := m.status(c.Context, n)
			if err != nil {
				return err
			}
			s.Progress = m.board(n.Store).Running(n.Store)
			if c.Bool("json") {
				return cmdline.PrintJSON(c, s)
			}
			printStatus(c.App.Writer, s)
			return nil
		},
	}
}

func (m machine) status(ctx context.Context, n *deploy.Node) (*status, error) {
	have, err := n.Inventory()
	if err != nil {
		return nil, err
	}
	if have.Unreadable != nil {
		n.Log.Warn("some deployments are damaged", "error", have.Unreadable)
	}
	for _, e := range have.Orphans {
		n.Log.Warn("a boot entry has no record", "entry", e.Name.String())
	}
	s := &status{Upgrade: report.Upgrade{Mode: n.Booted.Mode, Pinned: []string{}}, Busy: n.Store.Busy(), next: "boots next"}
	if before := have.Before(); n.Fixed() {
		s.next = "in use"
	} else if before != "" {
		s.next = "boots after another system"
		n.Log.Warn("another system comes first in the boot menu", "entry", before)
	}
	roles := have.Roles()
	s.Booted, s.Staged, s.Previous = idOf(roles.Booted), idOf(roles.Staged), idOf(roles.Previous)
	if s.Quarantined, err = deployment.QuarantineList(n.Store.Root()); err != nil {
		return nil, err
	}
	if s.Quarantined == nil {
		s.Quarantined = []deployment.Quarantine{}
	}
	if s.Recovery, err = n.Recovery(); err != nil {
		return nil, err
	}
	if err := measure(n, s, have.Deployments); err != nil {
		return nil, err
	}
	if n.Booted.Mode != "" {
		m.readPast(ctx, n, s, roles)
		s.Loader = m.loaderOf(n)
	}
	return s, nil
}

// measure fills in what everything takes.
func measure(n *deploy.Node, s *status, list []deploy.Deployment) error {
	usage, err := n.Usage(list)
	if err != nil {
		return err
	}
	if usage.Unreadable != nil {
		n.Log.Warn("sizes are incomplete", "error", usage.Unreadable)
	}
	s.Deployments = make([]deployed, len(list))
	for i, d := range list {
		s.Deployments[i] = deployed{Deployment: d, Usage: usage.Deployments[i]}
		if d.Pinned {
			s.Pinned = append(s.Pinned, d.ID)
		}
	}
	v := n.Store.View()
	s.Store = storeStatus{Path: v.Path, Label: n.Label, Verity: n.Store.Verity(), Totals: usage.Totals}
	if s.Store.Size, s.Store.Free, err = v.Space(); err != nil {
		return err
	}
	s.ESP.Path = n.Loader.Path()
	s.ESP.Size, s.ESP.Free, err = n.Loader.Space()
	return err
}

// readPast fills in what is known of the past of the node that runs: what the
// automation has decided, and how boots went. Status does without it.
func (m machine) readPast(ctx context.Context, n *deploy.Node, s *status, roles deploy.Roles) {
	config := automation.Read(m.root)
	s.Settings = settings{Mode: config.Mode, Follow: config.Follow, Reference: config.Reference}
	if config.Wrong != nil {
		s.Settings.Error = mask.Message(config.Wrong.Error())
	}
	var err error
	if s.Automation, err = m.readDecision(); err != nil {
		n.Log.Warn("cannot read the decision about automatic upgrades", "error", err)
	}
	s.Automation.Renew(roles)
	history, err := m.history(ctx)
	if err != nil {
		n.Log.Debug("cannot read the history of boots", "error", err)
	}
	for i := range s.Deployments {
		if b, ok := history[s.Deployments[i].ID]; ok {
			s.Deployments[i].Boots = &b
		}
	}
}

func idOf(d *deploy.Deployment) string {
	if d == nil {
		return ""
	}
	return d.ID
}

func printStatus(w io.Writer, s *status) {
	if len(s.Deployments) == 0 {
		fmt.Fprintln(w, "no deployments")
	}
	for _, d := range s.Deployments {
		printDeployment(w, s, d)
	}
	for _, q := range s.Quarantined {
		how := "quarantined"
		if !q.Refuses() {
			how = "no verdict"
		}
		terminal.Fprintf(w, "\n%s: %s\n  %s\n  since %s: %s\n", how, q.Reference, q.ManifestDigest, terminal.Time(q.Time), q.Reason)
	}
	verity := "fs-verity"
	if !s.Store.Verity {
		verity = "no fs-verity"
	}
	printAutomation(w, s)
	terminal.Fprintf(w, "\nstore %s (%s): %s used, %s free\n", s.Store.Label, verity, terminal.Bytes(s.Store.Bytes), terminal.Bytes(s.Store.Free))
	terminal.Fprintf(w, "boot loader: %s%s free of %s\n", loaderText(s.Loader), terminal.Bytes(s.ESP.Free), terminal.Bytes(s.ESP.Size))
	if s.Busy != nil {
		terminal.Fprintf(w, "in progress: %s\n", s.Busy)
	}
	if s.Progress != nil && s.Progress.Phase != "" {
		terminal.Fprintf(w, "  %s\n", progress.Text(s.Progress.Progress))
	}
}

// width is how wide a page is that fits everywhere.
const width = 80

// printDeployment prints a block: what it is to the node, and where it came from.
func printDeployment(w io.Writer, s *status, d deployed) {
	title, state := deploy.Title(d.Record), describe(s, d.Deployment)
	head := fmt.Sprintf("%s %s  %s", terminal.Mark(mark(s, d.Deployment)), d.ID, terminal.Line(title))
	if utf8.RuneCountInString(head)+2+len(state) <= width {
		terminal.Fprintf(w, "%s  %s\n", head, state)
	} else {
		terminal.Fprintf(w, "%s\n  %s\n", head, state)
	}
	if d.Version != "" && !strings.Contains(title, d.Version) {
		terminal.Fprintf(w, "  version %s\n", d.Version)
	}
	terminal.Fprintf(w, "  %s\n", d.Reference)
	if d.InsecureRegistry != "" {
		terminal.Fprintf(w, "  registry %s is accepted without TLS (--insecure)\n", d.InsecureRegistry)
	}
	if d.ManifestDigest != "" {
		terminal.Fprintf(w, "  digest %s\n", d.ManifestDigest) // 80 columns
	}
	terminal.Fprintf(w, "  staged %s %s; %s, %s of them its own\n", terminal.Time(d.Created), by(d.Origin),
		terminal.Bytes(d.Usage.Disk), terminal.Bytes(d.Usage.Exclusive))
}

// by says who staged a deployment.
func by(origin string) string {
	switch origin {
	case "stage":
		return "by hand"
	case automation.Origin:
		return "by the automation"
	case "rollback":
		return "by a rollback"
	case "install":
		return "by the installation"
	}
	return "by " + origin
}

// printAutomation tells what the automation is set to, when it last looked, and
// what came of that.
func printAutomation(w io.Writer, s *status) {
	if s.Settings.Error != "" {
		terminal.Fprintf(w, "\nautomation: stopped, %s\n", s.Settings.Error)
		return
	}
	if (s.Settings.Mode == "" || s.Settings.Mode == automation.Off) && s.Automation == nil {
		return
	}
	terminal.Fprintf(w, "\nautomation: Mode=%s\n", s.Settings.Mode)
	d := s.Automation
	if d == nil {
		fmt.Fprintln(w, "  has not looked for an upgrade since the boot")
		return
	}
	if d.Error != "" {
		terminal.Fprintf(w, "  failed at %s: %s\n", terminal.Time(d.Checked), d.Error)
		return
	}
	terminal.Fprintf(w, "  looked at %s: %s\n", terminal.Time(d.Checked), d.Reason)
	if d.Update != nil {
		terminal.Fprintf(w, "update: %s%s: %s\n", d.Update.Reference, inBrackets(d.Update.Version), d.Reason)
	}
}

// mark is the first thing that the eye catches.
func mark(s *status, d deploy.Deployment) string {
	switch {
	case d.ID == s.Booted:
		return "●"
	case d.ID == s.Staged:
		return "→"
	case d.State == deploy.Bad:
		return "×"
	}
	return " "
}

// describe says what a deployment is to the node, in few words.
func describe(s *status, d deploy.Deployment) string {
	var words []string
	add := func(is bool, word string) {
		if is {
			words = append(words, word)
		}
	}
	add(d.ID == s.Booted, "booted")
	add(d.ID == s.Staged, s.next)
	add(d.ID == s.Previous, "previous")
	switch d.State {
	case deploy.Pending:
		add(true, fmt.Sprintf("%d tries left", d.TriesLeft))
	default:
		add(true, string(d.State))
	}
	add(d.Quarantined.Refuses(), "quarantined")
	add(d.Pinned, "pinned")
	return strings.Join(slices.Compact(words), ", ")
}
