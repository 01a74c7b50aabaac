// Package entries finds inconsistencies between boot entries, the boot files that they
// name, and the records of deployments. It considers entries of deployments only
// (kairos-ID), and decides how to repair each without changing anything.
//
// Records without an entry and boot files that no entry names are harmless: they are
// reported, and kairos-upgrade gc removes them.
package entries

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Kind is the type of a problem.
type Kind string

const (
	Duplicate Kind = "duplicate"     // another file of the same entry, with other counters or none
	NoFiles   Kind = "missing_files" // names missing boot files, or none
	NoRecord  Kind = "no_record"     // its deployment has no record
	NoEntry   Kind = "no_entry"      // a deployment without an entry
	Unnamed   Kind = "unnamed_file"  // a boot file that no entry names
)

// Action is the repair of a problem.
type Action string

const (
	Remove  Action = "remove"  // remove the entry
	Restore Action = "restore" // restore its boot files, by kairos-upgrade verify --repair
	Renew   Action = "renew"   // write the entry again, by kairos-upgrade rollback
	Keep    Action = "keep"    // keep the entry, since it is still needed
	Collect Action = "collect" // left to kairos-upgrade gc
)

// Problem is an inconsistency.
type Problem struct {
	Kind       Kind   `json:"problem"`
	Entry      string `json:"entry,omitempty"`      // file name of the entry
	Deployment string `json:"deployment,omitempty"` // id
	Detail     string `json:"detail,omitempty"`     // for people
	Action     Action `json:"action"`
	Done       bool   `json:"done"`
	Error      string `json:"error,omitempty"` // why the repair failed

	name bls.Name
	// last is the action when boot files can't be restored.
	last Action
}

// Name returns the name of the entry.
func (p Problem) Name() bls.Name { return p.name }

// Otherwise returns the problem with the action for the case that its boot files can't
// be restored.
func (p Problem) Otherwise() Problem {
	p.Action = p.last
	return p
}

// String describes the problem for people.
func (p Problem) String() string {
	what := map[Kind]string{
		Duplicate: "boot entry %s is a duplicate: %s",
		NoFiles:   "boot entry %s: %s",
		NoRecord:  "boot entry %s: %s",
		NoEntry:   "deployment %s has no boot entry",
		Unnamed:   "no boot entry names %s",
	}[p.Kind]
	switch p.Kind {
	case NoEntry:
		return fmt.Sprintf(what, p.Deployment)
	case Unnamed:
		return fmt.Sprintf(what, p.Detail)
	}
	return fmt.Sprintf(what, p.Entry, p.Detail)
}

// Inventory is what a node has of boot entries, records and boot files.
type Inventory struct {
	Entries []bls.Entry // in the order of the boot menu
	Records []deployment.Record
	Unread  bool   // some records could not be read, and may belong to any entry
	Running string // id of the deployment that runs
	// Missing returns the boot files of an entry that don't match its record; the
	// record is nil if there is none.
	Missing func(bls.Entry, *deployment.Record) []string
	// Files returns the existing boot files.
	Files []string
}

// candidate is an entry of a deployment.
type candidate struct {
	bls.Entry
	id      string
	record  *deployment.Record
	missing []string
}

// whole reports whether the entry can boot, as far as is known.
func (c candidate) whole() bool { return c.record != nil && !c.broken() }

func (c candidate) broken() bool { return len(c.missing) > 0 || c.unnamed() }

// unnamed reports whether the entry names nothing to boot.
func (c candidate) unnamed() bool { return c.Linux == "" && c.EFI == "" && c.UKI == "" }

// Plan returns the problems, and the entry for a fallback, "" when there is none: the
// first one of another deployment that can boot and is not bad. Problems whose repair
// writes come first, those that remove last.
func (n Inventory) Plan() (problems []Problem, fallback string) {
	var list []candidate // one of each deployment, in the order of the menu
	for _, e := range n.Entries {
		if id, ours := deployment.IDOfEntry(strings.ToLower(e.Name.Base)); ours {
			list = append(list, n.candidate(e, id))
		}
	}
	list, problems = single(list)
	running := -1
	for i, c := range list {
		switch {
		case c.id == n.Running:
			running = i
		case fallback == "" && c.whole() && c.Name.State() != bls.Bad:
			fallback = c.Name.String()
		}
	}
	for i, c := range list {
		if p, wrong := n.judge(c, list, fallback, i < running); wrong {
			problems = append(problems, p)
		}
	}
	problems = append(problems, n.withoutEntry(list)...)
	problems = append(problems, n.unnamedFiles()...)
	order := []Action{Renew, Restore, Remove, Keep, Collect}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return slices.Index(order, a.Action) - slices.Index(order, b.Action)
	})
	return problems, fallback
}

func (n Inventory) candidate(e bls.Entry, id string) candidate {
	c := candidate{Entry: e, id: id, record: n.record(id)}
	c.missing = n.Missing(e, c.record)
	return c
}

func (n Inventory) record(id string) *deployment.Record {
	for i := range n.Records {
		if n.Records[i].ID == id {
			return &n.Records[i]
		}
	}
	return nil
}

// single chooses one of the entries of a deployment: one that can boot before one that
// can't; then one without counters, whose deployment was good; then one with tries
// left, the fewest first: counts only decrease, until the counters are removed.
func single(list []candidate) (kept []candidate, problems []Problem) {
	for _, c := range list {
		i := slices.IndexFunc(kept, func(k candidate) bool { return k.id == c.id })
		if i < 0 {
			kept = append(kept, c)
			continue
		}
		stays, goes := kept[i], c
		if better(c, kept[i]) {
			stays, goes = c, kept[i]
		}
		kept[i] = stays
		problems = append(problems, goes.problem(Duplicate, Remove, stays.Name.String()+" stays"))
	}
	return kept, problems
}

func better(a, b candidate) bool {
	switch {
	case a.unnamed() != b.unnamed():
		return b.unnamed()
	case a.broken() != b.broken():
		return b.broken()
	case a.Name.Counted != b.Name.Counted:
		return b.Name.Counted
	case (a.Name.State() == bls.Bad) != (b.Name.State() == bls.Bad): // rather a try too many
		return b.Name.State() == bls.Bad
	}
	return a.Name.Left < b.Name.Left
}

func (c candidate) problem(kind Kind, action Action, detail string) Problem {
	return Problem{Kind: kind, Entry: c.Name.String(), Deployment: c.id, Detail: detail, Action: action, name: c.Name, last: action}
}

// judge returns the problem of an entry, if it has one. An entry that can't boot is
// removed where it would be tried before the running one, or where another fallback
// exists; otherwise it is kept, since its boot files may be restored later.
func (n Inventory) judge(c candidate, list []candidate, fallback string, first bool) (p Problem, wrong bool) {
	remove := Keep
	if c.id != n.Running && (first || fallback != "") {
		remove = Remove
	}
	switch {
	case c.unnamed():
		p = c.problem(NoFiles, remove, "has neither a kernel nor a UKI")
		if c.id == n.Running && c.record != nil && !renewed(list, *c.record) {
			p.Action = Renew
		}
	case len(c.missing) > 0:
		p = c.problem(NoFiles, remove, "lacks "+strings.Join(c.missing, ", "))
		if c.record != nil {
			p.Action = Restore
		}
	case c.record == nil: // what it needs may be collected at any time
		if fallback == "" || n.Unread {
			remove = Keep
		}
		p = c.problem(NoRecord, remove, "its deployment has no record")
	default:
		return p, false
	}
	return p, true
}

// renewed reports whether another deployment of the same image can boot.
func renewed(list []candidate, r deployment.Record) bool {
	return slices.ContainsFunc(list, func(c candidate) bool {
		return c.id != r.ID && c.whole() && c.Name.State() != bls.Bad &&
			c.record.ImageDigest == r.ImageDigest && c.record.Options == r.Options
	})
}

// withoutEntry returns the deployments without an entry.
func (n Inventory) withoutEntry(list []candidate) (problems []Problem) {
	for _, r := range n.Records {
		if slices.ContainsFunc(list, func(c candidate) bool { return c.id == r.ID }) {
			continue
		}
		p := Problem{Kind: NoEntry, Deployment: r.ID, Action: Collect}
		switch {
		case r.ID == n.Running && renewed(list, r):
			p.Action = Keep
		case r.ID == n.Running:
			p.Action = Renew
		}
		problems = append(problems, p)
	}
	return problems
}

// unnamedFiles returns the boot files that no entry names.
func (n Inventory) unnamedFiles() (problems []Problem) {
	named := map[string]bool{}
	for _, e := range n.Entries {
		for _, f := range e.Files() {
			named[strings.ToLower(f)] = true
		}
	}
	for _, f := range n.Files {
		if !named[strings.ToLower(f)] {
			problems = append(problems, Problem{Kind: Unnamed, Detail: f, Action: Collect})
		}
	}
	return problems
}
