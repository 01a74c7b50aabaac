package cmd

import (
	"context"
	"path/filepath"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/inotify"
)

// nodeState is what the properties of the service say.
type nodeState struct {
	booted, staged, previous string // ids, ""
	deployments, quarantined []map[string]dbus.Variant
}

func (s *service) state() nodeState {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.node
	if n.deployments == nil {
		n.deployments = []map[string]dbus.Variant{}
	}
	if n.quarantined == nil {
		n.quarantined = []map[string]dbus.Variant{}
	}
	return n
}

// refresh reads the state of the node, tells who listens, and follows the
// transaction of another process if there is one. What cannot be read stays as
// it was.
func (s *service) refresh() {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	o, err := s.start(context.Background(), s.where, begin{bar: s.bar(), log: s.log})
	if err != nil {
		s.log.Warn("cannot read the node's state", "error", err)
		return
	}
	defer o.end(nil)
	if state, err := readNode(o.Node); err != nil {
		s.log.Warn("cannot read the node's state", "error", err)
	} else {
		s.mu.Lock()
		s.node = state
		s.mu.Unlock()
	}
	s.follow(s.board(o.Store), s.board(o.Store).Running(o.Store))
	s.jobs.LogError(s.object.Changed(busName))
}

func readNode(n *deploy.Node) (s nodeState, err error) {
	have, err := n.Inventory()
	if err != nil {
		return s, err
	}
	roles := have.Roles()
	s.booted, s.staged, s.previous = idOf(roles.Booted), idOf(roles.Staged), idOf(roles.Previous)
	s.deployments = bus.Dicts(have.Deployments)
	quarantined, err := deployment.QuarantineList(n.Store.Root())
	s.quarantined = bus.Dicts(quarantined)
	return s, err
}

// watchStore refreshes the properties whenever the store, its quarantine, its
// lock, the boot entries or what is published of transactions change, until
// the watch is closed.
func (s *service) watchStore(changes *inotify.Watcher) {
	changes.Follow(s.matters, func() {
		s.refresh()
		s.watchDirs(changes)
	})
}

// watchDirs watches what is there; a directory that was mounted anew is not
// the one that was watched before.
func (s *service) watchDirs(changes *inotify.Watcher) {
	dirs := []string{s.run}
	booted, err := deployment.ReadBooted(s.booted)
	if err == nil && booted.Store == s.where.label {
		dirs = append(dirs, s.store, filepath.Join(s.store, deployment.Dir), filepath.Join(s.store, deployment.QuarantineDir),
			filepath.Join(s.esp, bls.EntriesDir))
	}
	for _, dir := range dirs {
		if err := changes.Add(dir); err != nil {
			s.log.Warn("cannot watch for changes by others", "error", err)
		}
	}
}

// matters tells what a transaction publishes while it runs, which is followed
// elsewhere, from the rest.
func (s *service) matters(e inotify.Event) bool {
	return e.Dir != s.run || e.Name == "" || s.jobs.Running() == "/"
}
