package cmd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/sdboot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// status is the object that status --json prints.
type status struct {
	Booted      string                  `json:"booted"`   // id, "" when nothing runs from this store
	Staged      string                  `json:"staged"`   // id of what boots next, "" when that is what runs
	Previous    string                  `json:"previous"` // id of the newest good one beside these, ""
	Pinned      []string                `json:"pinned"`   // ids
	Mode        deployment.Mode         `json:"mode"`     // how the machine was booted, ""
	Deployments []deployed              `json:"deployments"`
	Recovery    *deploy.Recovery        `json:"recovery"` // null when there is none, or it is this store
	Quarantined []deployment.Quarantine `json:"quarantined"`
	Automation  *automation.Decision    `json:"automation"` // the last decision since the boot, null
	Store       storeStatus             `json:"store"`
	ESP         espStatus               `json:"esp"`
	Loader      *sdboot.Status          `json:"loader"`   // null when nothing runs from this store
	Busy        *store.Holder           `json:"busy"`     // who changes it now, null
	Progress    *transaction.State      `json:"progress"` // how far that is, null

	next string // what Staged means, for people
}

// deployed is a deployment in a status.
type deployed struct {
	deploy.Deployment
	Usage deploy.Usage `json:"usage"`
	Boots *boots       `json:"boots"` // null when it is not known to have been booted
}

type storeStatus struct {
	Path   string `json:"path"`
	Label  string `json:"label"`
	Verity bool   `json:"verity"`
	Size   int64  `json:"size"` // bytes, of its file system
	Free   int64  `json:"free"` // bytes
	deploy.Totals
}

type espStatus struct {
	Path string `json:"path"`
	Size int64  `json:"size"` // bytes
	Free int64  `json:"free"` // bytes
}

func statusCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "tell what runs, what boots next, and what can be gone back to",
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
	s := &status{Mode: n.Booted.Mode, Busy: n.Store.Busy(), Pinned: []string{}, next: "boots next"}
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
		m.recall(ctx, n, s)
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

// recall fills in what is known of the past of the node that runs: what the
// automation has decided, and how boots went. Status does without it.
func (m machine) recall(ctx context.Context, n *deploy.Node, s *status) {
	var err error
	if s.Automation, err = m.noted(); err != nil {
		n.Log.Warn("what the automation has decided is not known", "error", err)
	}
	history, err := m.history(ctx)
	if err != nil {
		n.Log.Debug("the history of boots is not known", "error", err)
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
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(s.Deployments) == 0 {
		fmt.Fprintln(w, "no deployments")
	} else {
		fmt.Fprintln(table, " \tDEPLOYMENT\tSYSTEM\tSTATE\tSIZE\tOWN\tSTAGED\tIMAGE")
	}
	for _, d := range s.Deployments {
		terminal.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", mark(s, d.Deployment), d.ID, deploy.Title(d.Record), describe(s, d.Deployment),
			progress.Bytes(d.Usage.Disk), progress.Bytes(d.Usage.Exclusive), d.Created.Local().Format("2006-01-02 15:04"), d.Reference)
	}
	table.Flush()
	for _, q := range s.Quarantined {
		terminal.Fprintf(w, "\nquarantined: %s\n  %s\n  since %s: %s\n", q.Reference, q.ManifestDigest, q.Time.Local().Format(time.DateTime), q.Reason)
	}
	verity := "fs-verity"
	if !s.Store.Verity {
		verity = "no fs-verity"
	}
	printAutomation(w, s)
	terminal.Fprintf(w, "\nstore %s (%s): %s used, %s free\n", s.Store.Label, verity, progress.Bytes(s.Store.Bytes), progress.Bytes(s.Store.Free))
	terminal.Fprintf(w, "boot loader: %s%s free of %s\n", loaderText(s.Loader), progress.Bytes(s.ESP.Free), progress.Bytes(s.ESP.Size))
	if s.Busy != nil {
		terminal.Fprintf(w, "in progress: %s\n", s.Busy)
	}
	if s.Progress != nil && s.Progress.Phase != "" {
		terminal.Fprintf(w, "  %s\n", progress.Text(s.Progress.Snapshot))
	}
}

// printAutomation tells of an update that waits.
func printAutomation(w io.Writer, s *status) {
	d := s.Automation
	if d == nil || d.Update == nil || d.Staged != "" && d.Staged == s.Booted {
		return
	}
	terminal.Fprintf(w, "\nupdate: %s%s: %s\n", d.Update.Reference, inBrackets(d.Update.Version), d.Reason)
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
