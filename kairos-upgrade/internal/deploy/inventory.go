package deploy

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/kernelargs"
	"github.com/kairos-io/toolkit/lib/report"
)

// State is the state of a deployment.
type State = report.State

const (
	Good, Pending, Bad, Incomplete = report.Good, report.Pending, report.Bad, report.Incomplete
)

// Deployment is a record with the state of the deployment.
type Deployment struct {
	report.Deployment

	// entry is what boots it, nil without entry; order is its place in the boot
	// menu then.
	entry *bls.Entry
	order int
}

// Inventory is the content of a store and of its boot loader's menu at one moment.
type Inventory struct {
	// Deployments are those with a readable record, newest first.
	Deployments []Deployment
	// Unreadable is the error about unreadable records and quarantine entries, nil when
	// the inventory is complete.
	Unreadable error
	// Orphans are entries of this store without a record, most likely a lost one.
	Orphans []bls.Entry

	// first is the entry that the boot loader boots by itself, of whatever
	// system, nil without entries.
	first *bls.Entry
	// entries are all of this store, with a record or without.
	entries []bls.Entry
}

// Complete returns an error unless everything was readable: for callers that must not
// act on a partial view.
func (i Inventory) Complete() error { return i.Unreadable }

// Roles finds the roles of its deployments.
func (i Inventory) Roles() Roles { return RolesOf(i.Deployments) }

// Find returns one of its deployments, as the function Find does.
func (i Inventory) Find(id string) (*Deployment, error) {
	d, err := Find(i.Deployments, id)
	if err != nil {
		return nil, errors.Join(err, i.Unreadable) // it may be among these
	}
	return d, nil
}

// readings is how often an inventory is read before one is taken that may mix
// two moments: somebody who publishes or removes takes two steps, a second
// apart at most.
const readings = 10

// Inventory reads the inventory. It takes no lock: it reads again until nothing has
// changed meanwhile.
func (n *Node) Inventory() (Inventory, error) {
	entries, err := n.Loader.Entries()
	if err != nil {
		return Inventory{}, err
	}
	for range readings {
		records := n.Store.Records()
		again, err := n.Loader.Entries()
		if err != nil {
			return Inventory{}, err
		}
		if reflect.DeepEqual(entries, again) {
			return n.inventory(entries, records), nil
		}
		entries = again
	}
	return n.inventory(entries, n.Store.Records()), nil
}

func (n *Node) inventory(entries []bls.Entry, all deployment.Records) Inventory {
	records := all.Readable
	have := Inventory{Deployments: make([]Deployment, 0, len(records)), Unreadable: all.Unreadable}
	places := n.places(entries, records)
	for _, r := range slices.Backward(records) {
		d := Deployment{Deployment: report.Deployment{Record: r, State: Incomplete, Booted: r.ID == n.Booted.ID}, order: -1}
		if i, ok := places[r.ID]; ok {
			name := entries[i].Name
			d.State, d.TriesLeft, d.TriesDone = State(name.State()), name.Left, name.Done
			d.entry, d.order = &entries[i], i
		}
		var err error
		if d.Quarantined, err = n.quarantined(r.ManifestDigest, r.ImageDigest); err != nil {
			have.Unreadable = errors.Join(have.Unreadable, err)
		}
		have.Deployments = append(have.Deployments, d)
	}
	have.first = first(entries, n.Loader.Default())
	base, fixed := fixedEntry(n.Label)
	for _, e := range entries {
		image, label := boots(e)
		if image == "" || label != n.Label {
			continue
		}
		have.entries = append(have.entries, e)
		id, ours := deployment.IDOfEntry(strings.ToLower(e.Name.Base))
		recorded := func(r deployment.Record) bool { return r.ID == id }
		if fixed {
			ours = strings.EqualFold(e.Name.Base, base)
			recorded = func(r deployment.Record) bool { return r.ImageDigest == image }
		}
		if ours && !slices.ContainsFunc(records, recorded) {
			have.Orphans = append(have.Orphans, e)
		}
	}
	return have
}

// first returns the entry that boots by itself: the first one that matches the
// default, or else the first one that has tries left, or else none.
func first(entries []bls.Entry, pattern string) *bls.Entry {
	for i, e := range entries {
		id := strings.ToLower(e.Name.Base + ".conf")
		if ok, err := path.Match(strings.ToLower(pattern), id); pattern != "" && err == nil && ok {
			return &entries[i]
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return &entries[0]
}

// Before names the entry of another system that boots instead of this store's next
// deployment, since it comes first in the menu or is the default in loader.conf; "" for
// none.
func (i Inventory) Before() string {
	next := i.Roles().Next
	if next == nil || i.first == nil || strings.EqualFold(i.first.Name.Base, next.entry.Name.Base) {
		return ""
	}
	if i.first.Title == "" {
		return i.first.Name.String()
	}
	return fmt.Sprintf("%s (%s)", i.first.Title, i.first.Name)
}

// boots returns the digest of the image that an entry boots, "" when it names
// none, and the label of the store that it is in.
func boots(e bls.Entry) (imageDigest, label string) {
	label = disk.LabelState
	for word := range kernelargs.Words(e.Options) {
		switch name, value, _ := kernelargs.Cut(word); name {
		case "kairos.image":
			imageDigest = strings.TrimPrefix(value, "?")
		case "kairos.store":
			label = value
		}
	}
	return imageDigest, label
}

// places returns the index of the entry of each deployment that has one.
func (n *Node) places(entries []bls.Entry, records []deployment.Record) map[string]int {
	places := map[string]int{}
	put := func(id string, i int) {
		if _, again := places[id]; !again { // of two entries the first one boots
			places[id] = i
		}
	}
	base, fixed := fixedEntry(n.Label)
	for i, e := range entries {
		if !fixed {
			if id, ok := deployment.IDOfEntry(strings.ToLower(e.Name.Base)); ok {
				put(id, i)
			}
		} else if strings.EqualFold(e.Name.Base, base) {
			put(bootedBy(e, records), i)
		}
	}
	return places
}

// bootedBy returns the newest deployment that an entry of a fixed name can
// mean: told by the command line, or else by the image.
func bootedBy(e bls.Entry, records []deployment.Record) (id string) {
	for _, r := range records { // oldest first
		if strings.Contains(e.Options, r.ImageDigest) {
			id = r.ID
		}
	}
	for _, r := range records {
		if r.Options == e.Options {
			id = r.ID
		}
	}
	return id
}

// Roles are the deployments with a role. Each may be nil.
type Roles struct {
	Booted   *Deployment // runs now
	Next     *Deployment // boots next, as far as this store is concerned
	Staged   *Deployment // Next, unless it is running
	Previous *Deployment // the newest good one that does not run: the way back
}

// RolesOf finds the roles among deployments, newest first.
func RolesOf(list []Deployment) (r Roles) {
	for i := range list {
		d := &list[i]
		if d.Booted {
			r.Booted = d
		}
		if d.order >= 0 && d.State != Bad && (r.Next == nil || d.order < r.Next.order) {
			r.Next = d
		}
	}
	if r.Next != nil && !r.Next.Booted {
		r.Staged = r.Next
	}
	for i := range list {
		d := &list[i]
		if d.State == Good && !d.Booted && d != r.Staged && (r.Previous == nil || r.Previous.Serial < d.Serial) {
			r.Previous = d
		}
	}
	return r
}

// Find returns a deployment by its id, its serial, or the beginning of its id.
func Find(list []Deployment, id string) (*Deployment, error) {
	var found []*Deployment
	for i := range list {
		d := &list[i]
		if d.ID == id || fmt.Sprint(d.Serial) == id {
			return d, nil
		}
		if strings.HasPrefix(d.ID, id) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("deployment %s: %w", id, ErrNoDeployment)
	}
	return nil, fmt.Errorf("deployment %s: %s and %s begin with that", id, found[0].ID, found[1].ID)
}

// ErrNoDeployment says that the deployment doesn't exist.
var ErrNoDeployment = errors.New("no such deployment")
