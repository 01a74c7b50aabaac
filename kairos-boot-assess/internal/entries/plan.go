// Package entries finds boot entries that do not fit together: with each
// other, with the boot files that they name, and with the records of
// deployments. It looks at the entries of deployments only (kairos-ID), and
// decides what to do about each without changing anything.
//
// What kairos-upgrade gc removes anyway, records without an entry and boot files
// that no entry names, is harmless, and only told.
package entries

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Kind is what is wrong.
type Kind string

const (
	Duplicate Kind = "duplicate"     // another file of the same entry, with other counters or none
	NoFiles   Kind = "missing_files" // names boot files that are not there, or none
	NoRecord  Kind = "no_record"     // its deployment has no record
	NoEntry   Kind = "no_entry"      // a deployment that can't be booted
	Unnamed   Kind = "unnamed_file"  // a boot file that no entry names
)

// Action is what is done about it.
type Action string

const (
	Remove  Action = "remove"  // the entry
	Restore Action = "restore" // its boot files, by kairos-upgrade verify --repair
	Renew   Action = "renew"   // the entry, by kairos-upgrade rollback
	Keep    Action = "keep"    // something needs it as it is
	Collect Action = "collect" // left to kairos-upgrade gc
)

// Problem is one thing that is wrong.
type Problem struct {
	Kind       Kind   `json:"problem"`
	Entry      string `json:"entry,omitempty"`      // file name of the entry
	Deployment string `json:"deployment,omitempty"` // id
	Detail     string `json:"detail,omitempty"`     // for people
	Action     Action `json:"action"`
	Done       bool   `json:"done"`
	Error      string `json:"error,omitempty"` // why it was not

	name bls.Name
	// last is what is done when boot files can't be restored.
	last Action
}

// Name is the name of the entry.
func (p Problem) Name() bls.Name { return p.name }

// Otherwise returns the problem with what is to be done when its boot files
// could not be restored.
func (p Problem) Otherwise() Problem {
	p.Action = p.last
	return p
}

// String says what is wrong.
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

// Node is what is known of a node.
type Node struct {
	Entries []bls.Entry // in the order of the boot menu
	Records []deployment.Record
	Unread  bool   // some records could not be read, and may be of any entry
	Running string // id of the deployment that runs
	// Missing returns the boot files of an entry that are not there as its
	// record, nil if there is none, says.
	Missing func(bls.Entry, *deployment.Record) []string
	// Files are the boot files that are there.
	Files []string
}

// candidate is an entry of a deployment.
type candidate struct {
	bls.Entry
	id      string
	record  *deployment.Record
	missing []string
}

// whole reports whether the entry can be booted, as far as is known.
func (c candidate) whole() bool { return c.record != nil && !c.broken() }

func (c candidate) broken() bool { return len(c.missing) > 0 || c.unnamed() }

// unnamed reports whether the entry names nothing to boot.
func (c candidate) unnamed() bool { return c.Linux == "" && c.EFI == "" && c.UKI == "" }

// Plan returns what is wrong, and the entry that the node falls back to, "" when
// there is none: the first one of another deployment that is whole and not bad.
// What has to be written again comes first, what is removed last.
func (n Node) Plan() (problems []Problem, fallback string) {
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

func (n Node) candidate(e bls.Entry, id string) candidate {
	c := candidate{Entry: e, id: id, record: n.record(id)}
	c.missing = n.Missing(e, c.record)
	return c
}

func (n Node) record(id string) *deployment.Record {
	for i := range n.Records {
		if n.Records[i].ID == id {
			return &n.Records[i]
		}
	}
	return nil
}

// single leaves one entry of each deployment: one that can be booted before one
// that can't, one without counters, whose deployment was good, before one with,
// and of these one with tries left, but the fewest: names change from more to
// fewer, and from counters to none.
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

// judge says what is wrong with an entry. One that can't be booted is removed
// where it would be tried before what runs, or where there is another way back:
// else it is kept, since its boot files may be restored later.
func (n Node) judge(c candidate, list []candidate, fallback string, first bool) (p Problem, wrong bool) {
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

// renewed reports whether the same is there to be booted as another deployment.
func renewed(list []candidate, r deployment.Record) bool {
	return slices.ContainsFunc(list, func(c candidate) bool {
		return c.id != r.ID && c.whole() && c.Name.State() != bls.Bad &&
			c.record.ImageDigest == r.ImageDigest && c.record.Options == r.Options
	})
}

// withoutEntry returns the deployments without an entry.
func (n Node) withoutEntry(list []candidate) (problems []Problem) {
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

// unnamedFiles returns the boot files that no entry names, of whomever.
func (n Node) unnamedFiles() (problems []Problem) {
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
