package deploy

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// tries is how many boots a new deployment has to prove itself.
const tries = 3

// publish writes the record and then, as the one step that changes what boots,
// the entry. Everything that the record names must be there.
func (n *Node) publish(r deployment.Record) (deployment.Record, error) {
	serial, err := n.nextSerial()
	if err != nil {
		return r, err
	}
	r.Serial = serial
	r.ID = deployment.NewID(serial, r.ImageDigest)
	if n.Medium == nil || r.Created.IsZero() {
		r.Created = time.Now().UTC().Truncate(time.Second)
	}
	if err := n.Store.PutRecord(r); err != nil {
		return r, err
	}
	e := n.entry(r)
	if err := n.Loader.Publish(e); err != nil && !n.visible(e) {
		return r, errors.Join(err, n.Store.RemoveRecord(r.ID))
	} else if err != nil {
		// It may boot: everything that it needs must stay.
		n.Log.Warn("the boot entry was written, but may not survive a power cut", "error", err)
	}
	return r, nil
}

// visible reports whether an entry can be seen by the boot loader. When in
// doubt, it can.
func (n *Node) visible(e bls.Entry) bool {
	entries, err := n.Loader.Entries()
	return err != nil || slices.ContainsFunc(entries, func(have bls.Entry) bool {
		return strings.EqualFold(have.Name.Base, e.Name.Base) && have.Options == e.Options
	})
}

// nextSerial takes the entries into account, too: in the boot menu, the new
// one must come first.
func (n *Node) nextSerial() (uint64, error) {
	if _, fixed := fixedEntry(n.Label); fixed {
		return n.Store.NextSerial()
	}
	entries, err := n.Loader.Entries()
	if err != nil {
		return 0, err
	}
	var used []uint64
	for _, e := range entries {
		if id, ok := deployment.IDOfEntry(e.Name.Base); ok {
			if serial, err := deployment.ParseID(id); err == nil {
				used = append(used, serial)
			}
		}
	}
	return n.Store.NextSerial(used...)
}

// entry returns the boot entry of a record. The recovery's and the medium's
// are not counted: there is nothing to fall back to.
func (n *Node) entry(r deployment.Record) bls.Entry {
	e := n.Loader.Entry(r)
	e.Title = Title(r)
	e.Version = fmt.Sprint(r.Serial)
	base, fixed := fixedEntry(n.Label)
	if !fixed {
		e.SortKey = "kairos"
		e.Name = bls.Name{Base: r.EntryBase(), Counted: true, Left: tries}
		return e
	}
	e.SortKey = base
	e.Name = bls.Name{Base: base}
	switch n.Label {
	case disk.LabelRecovery:
		e.Title = "Recovery (" + e.Title + ")"
	case disk.LabelLive:
		e.Title += " (live)"
	}
	return e
}

// Title returns the title in the boot menu: that of the node, or the system and its
// version.
func Title(r deployment.Record) string {
	if r.NodeTitle != "" {
		return r.NodeTitle
	}
	name := r.OS
	if name == "" {
		name = "Linux"
	}
	if r.Version != "" && !strings.Contains(name, r.Version) {
		name += " " + r.Version
	}
	return name
}

// putBootFile writes a boot file from its object.
func (n *Node) putBootFile(f deployment.File) error {
	return n.Loader.Put(f, func() (io.ReadCloser, error) {
		d, err := fsverity.Parse(f.Digest)
		if err != nil {
			return nil, err
		}
		return n.Store.OpenObject(d)
	})
}
