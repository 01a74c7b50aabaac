package main

import (
	"context"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/inotify"
	"github.com/kairos-io/toolkit/lib/report"
)

// maxStatus is how long reading the state of the volumes may take, which asks the TPM.
const maxStatus = time.Minute

// paths returns the paths of the volumes' objects, sorted.
func (s *service) paths() []dbus.ObjectPath {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := make([]dbus.ObjectPath, 0, len(s.volumes))
	for _, v := range s.volumes {
		paths = append(paths, v.object.Path())
	}
	slices.Sort(paths)
	return paths
}

// refresh reads the state of the volumes and signals changes. It keeps the old state of
// what can't be read.
func (s *service) refresh() {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	ctx, cancel := context.WithTimeout(s.bus.Context(), maxStatus)
	defer cancel()
	var read report.Crypt
	r := newRequest("status", "--json")
	out, err := r.run(ctx)
	if err == nil {
		err = decode(out, &read)
	}
	if err != nil {
		if s.bus.Context().Err() == nil {
			s.log.Warn("the state of the volumes is not known", "error", err)
		}
		return
	}
	news := s.take(read)
	s.jobs.LogError(s.object.Changed(busName))
	for _, tell := range news {
		tell()
	}
}

// take stores a new state in the objects, and returns the signals to send afterwards.
func (s *service) take(read report.Crypt) (news []func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staged = read.Staged
	gone := map[string]*volume{}
	for device, v := range s.volumes {
		gone[device] = v
	}
	for _, state := range read.Volumes {
		v := s.volumes[state.Device]
		delete(gone, state.Device)
		if v == nil {
			v = &volume{service: s, device: state.Device}
			v.object = s.bus.Export(pathOf(state.Device), v.describe())
			s.volumes[state.Device] = v
		}
		was := v.state
		v.state = state
		news = append(news, func() { s.jobs.LogError(v.object.Changed(volumeInterface)) })
		news = append(news, s.news(v, was, state)...)
	}
	for device, v := range gone {
		v.object.Remove()
		delete(s.volumes, device)
	}
	s.known = true
	return news
}

// news returns the signals about changes of a known volume.
func (s *service) news(v *volume, was, is report.Volume) (news []func()) {
	path := v.object.Path()
	emit := func(name string, args ...any) {
		news = append(news, func() { s.jobs.LogError(s.object.Emit(busName, name, append([]any{path}, args...)...)) })
	}
	if s.known && !reflect.DeepEqual(slots(was), slots(is)) {
		emit("SlotsChanged")
	}
	if end := is.LastUnlock; s.known && end != nil && (was.LastUnlock == nil || !end.Time.Equal(was.LastUnlock.Time)) {
		if end.Error != "" {
			emit("UnlockFailed", end.Name, end.Error)
		} else {
			emit("VolumeUnlocked", end.Name, uint32(max(0, end.Slot)))
		}
	}
	return news
}

// slots returns the key slots of a volume without the verdicts that depend on the TPM
// and the next boot.
func slots(v report.Volume) []report.Slot {
	list := slices.Clone(v.Slots)
	for i := range list {
		list[i] = report.Slot{Slot: list[i].Slot, Kind: list[i].Kind, Policy: list[i].Policy, URL: list[i].URL}
	}
	return append([]report.Slot{}, list...)
}

// watch refreshes the properties whenever any process writes to a volume, an unlock
// ends or the deployments change, until the watch is closed.
func (s *service) watch(changes *inotify.Watcher) {
	changes.Follow(s.matters, func() {
		s.refresh()
		s.watchDirs(changes)
	})
}

// watchDirs watches the directories that exist. The closing of a device node that was
// open for writing means that its header may have changed; udev relies on the same
// event.
func (s *service) watchDirs(changes *inotify.Watcher) {
	for _, dir := range []string{s.dev, s.unlocks, filepath.Dir(s.unlocks), s.upgrades} {
		if err := changes.Add(dir); err != nil {
			s.log.Warn("cannot watch for changes by others", "error", err)
		}
	}
}

// matters filters events: it skips devices without volumes, temporary files, and
// transactions of kairos-upgrade that have not ended.
func (s *service) matters(e inotify.Event) bool {
	switch {
	case atomicfile.IsTemp(e.Name):
		return false
	case e.Name == "":
		return true
	case e.Dir == filepath.Dir(s.unlocks): // locks are there as well
		return e.Name == filepath.Base(s.unlocks)
	case e.Dir == s.dev:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.volumes[filepath.Join(s.dev, e.Name)] != nil
	case e.Dir != s.upgrades:
		return strings.HasSuffix(e.Name, ".json")
	}
	t, err := report.Read[report.Transaction](e.Dir, e.Name)
	return err == nil && t.Completed
}
