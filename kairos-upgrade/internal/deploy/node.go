// Package deploy changes which deployment a node boots: it stages images, rolls back,
// collects garbage, verifies and repairs.
//
// A deployment is published in this order, each step durable before the next: objects
// and image in the store, boot files on the ESP, the record, and last, by one rename,
// the boot entry. Until then the machine boots as before.
package deploy

import (
	"log/slog"
	"os"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
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
	// Booted describes the running system, if it runs from this store.
	Booted deployment.Booted
	// Unlocked are the encrypted volumes that the running system has opened, by the
	// label of their partition; nil where the node is not the running one.
	Unlocked map[string]string
	// SecureBoot says that Secure Boot is enabled on this machine.
	SecureBoot bool
	// MustBoot says that an image which Lint finds unable to boot is staged only with
	// force.
	MustBoot bool
	// Medium, unless nil, gets the image's boot code: a medium is made. Its records
	// are of the time when the image was made, so that the same image makes the same
	// medium.
	Medium *os.Root
	Log    *slog.Logger
	// Apart, unless it is nil, has images read in a process without rights.
	Apart *Apart
	// Progress may be nil.
	Progress *progress.Reporter
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
