// Package deploy changes what a node boots: it stages images, goes back to
// older ones, collects what is not needed any more, and verifies what is there.
//
// A deployment is published in this order, each step durable before the next:
// objects and image in the store, boot files on the ESP, the record, and last,
// by one rename, the boot entry. Until then the machine boots as before.
package deploy

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
)

// Node is a store and a boot loader that belong together.
type Node struct {
	Store  *store.Store
	Loader boot.Loader
	// Label is the label of the store's partition: kairos.store= of its
	// deployments.
	Label string
	// Booted is what runs now, if it runs from this store.
	Booted deployment.Booted
	Log    *slog.Logger
	// Progress may be nil.
	Progress *progress.Reporter
}

// State says how far a deployment has come.
type State string

const (
	Good       State = "good"       // booted and found good, or never counted
	Pending    State = "pending"    // tries are left, no verdict yet
	Bad        State = "bad"        // no tries are left
	Incomplete State = "incomplete" // has no boot entry: an interrupted transaction
)

// Deployment is a record and what has become of it.
type Deployment struct {
	deployment.Record
	State       State                  `json:"state"`
	TriesLeft   int                    `json:"tries_left"`
	TriesDone   int                    `json:"tries_done"`
	Booted      bool                   `json:"booted"`
	Quarantined *deployment.Quarantine `json:"quarantined,omitempty"`

	// order is the place of the entry in the boot menu, -1 without entry.
	order int
}

// Deployments returns the deployments of the store, newest first. Damaged
// records are returned as an error beside the others.
func (n *Node) Deployments() ([]Deployment, error) {
	entries, err := n.Loader.Entries()
	if err != nil {
		return nil, err
	}
	records, damaged := n.Store.Records()
	places := n.places(entries, records)
	list := make([]Deployment, 0, len(records))
	for _, r := range slices.Backward(records) {
		d := Deployment{Record: r, State: Incomplete, Booted: r.ID == n.Booted.ID, order: -1}
		if i, ok := places[r.ID]; ok {
			name := entries[i].Name
			d.State, d.TriesLeft, d.TriesDone, d.order = State(name.State()), name.Left, name.Done, i
		}
		if d.Quarantined, err = n.quarantined(r.ManifestDigest, r.ImageDigest); err != nil {
			damaged = errors.Join(damaged, err)
		}
		list = append(list, d)
	}
	return list, damaged
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

// fixedEntry returns the base name of the entry of stores that have only one.
func fixedEntry(label string) (base string, fixed bool) {
	switch label {
	case disk.LabelRecovery:
		return "kairos-recovery", true
	case disk.LabelLive:
		return "kairos-live", true
	}
	return "", false
}

// Fixed reports whether the store is one that has a single boot entry of a
// fixed name: the recovery's or a medium's. It never boots next by itself.
func (n *Node) Fixed() bool { _, fixed := fixedEntry(n.Label); return fixed }

// quarantined returns the quarantine of the first of some digests that is in
// it. What has no manifest is known by its image.
func (n *Node) quarantined(digests ...string) (*deployment.Quarantine, error) {
	for _, d := range digests {
		if d == "" {
			continue
		}
		if q, err := deployment.Quarantined(n.Store.Root(), d); q != nil || err != nil {
			return q, err
		}
	}
	return nil, nil
}

// Roles says which deployments have a part to play. Each may be nil.
type Roles struct {
	Booted   *Deployment // runs now
	Next     *Deployment // boots next, as far as this store is concerned
	Staged   *Deployment // Next, if that is not what runs
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

// Find returns a deployment by its id, by its serial, or by what its id begins
// with.
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

// ErrNoDeployment says that there is no such deployment.
var ErrNoDeployment = errors.New("no such deployment")
