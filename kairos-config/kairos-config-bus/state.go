package main

import (
	"context"
	"path/filepath"

	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/kairos-config/internal/staging"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/inotify"
	"github.com/kairos-io/toolkit/lib/report"
)

// state is what the properties of the service say.
type state struct {
	booted, staged      string // ids of generations, ""
	generations, stages dicts
}

func (s *service) now() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state
	if now.generations == nil {
		now.generations = dicts{}
	}
	if now.stages == nil {
		now.stages = dicts{}
	}
	return now
}

// refresh reads the state of the node and tells who listens. What can't be
// read stays as it was.
func (s *service) refresh() {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	var read struct {
		Stages []stage.Record `json:"stages"`
		Config staging.State  `json:"config"`
	}
	ctx, cancel := context.WithTimeout(s.bus.Context(), maxTime)
	defer cancel()
	out, err := s.run(ctx, request{args: []string{"status", "--json"}})
	if err == nil {
		err = decode(out, &read)
	}
	if err != nil {
		if s.bus.Context().Err() == nil {
			s.log.Warn("cannot read the node's state", "error", err)
		}
		return
	}
	s.mu.Lock()
	s.state = state{read.Config.Booted, read.Config.Staged, bus.Dicts(read.Config.Generations), bus.Dicts(read.Stages)}
	s.mu.Unlock()
	s.jobs.LogError(s.object.Changed(busName))
}

// watch refreshes the properties whenever a generation, the record of a stage
// or the deployments change, until the watch is closed.
func (s *service) watch(changes *inotify.Watcher) {
	changes.Follow(s.matters, func() {
		s.refresh()
		s.watchDirs(changes)
	})
}

// watchDirs watches what is there.
func (s *service) watchDirs(changes *inotify.Watcher) {
	for _, dir := range []string{s.generations, filepath.Dir(s.generations), s.records, s.upgrades} {
		if err := changes.Add(dir); err != nil {
			s.log.Warn("cannot watch for changes by others", "error", err)
		}
	}
}

// matters leaves out files that are being written, and what a transaction of
// kairos-upgrade publishes before it has ended, several times a second.
func (s *service) matters(e inotify.Event) bool {
	switch {
	case atomicfile.IsTemp(e.Name):
		return false
	case e.Dir != s.upgrades || e.Name == "":
		return true
	}
	t, err := report.Read[report.Transaction](e.Dir, e.Name)
	return err == nil && t.Completed
}
