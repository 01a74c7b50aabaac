// Package service implements io.kairos.BootAssess1 on the system bus:
// io.kairos.BootAssess1(5).
package service

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/inotify"
)

// Names on the bus.
const (
	Name   = assess.BusName
	Path   = dbus.ObjectPath("/io/kairos/BootAssess1")
	action = "io.kairos.bootassess1."
)

// Service shows the assessment of a node on the bus.
type Service struct {
	node   *assess.Node
	bus    *bus.Service
	object *bus.Object
	jobs   *bus.Transactions
	log    *slog.Logger

	refreshing sync.Mutex // held while the state is read and signalled

	mu     sync.Mutex
	status assess.Status
}

// Serve runs the service on the bus until it is idle or ctx ends.
func Serve(ctx context.Context, served *bus.Served, node *assess.Node) error {
	s := &Service{node: node, bus: served.Service, log: served.Log}
	s.jobs = &bus.Transactions{Service: s.bus, Cancel: action + "cancel", Refresh: s.refresh, Log: s.log}
	s.object = s.bus.Export(Path, s.describe())
	s.jobs.Object = s.object
	s.watchDirs(served.Changes)
	s.read()
	names := make(chan *dbus.Signal, 16)
	s.bus.Conn().Signal(names)
	return served.Serve(ctx, func() { s.watch(served.Changes) }, func() { s.watchName(names) })
}

type (
	dict  = map[string]dbus.Variant
	dicts = []dict
)

func (s *Service) describe() bus.Interface {
	property := func(name, kind string, value func(assess.Status) any) bus.Property {
		return bus.Property{Name: name, Type: kind, Get: func() any { return value(s.now()) }}
	}
	return bus.Interface{
		Name: Name,
		Methods: []bus.Method{
			{Name: "MarkGood", Action: action + "mark-good", Func: s.markGood},
			{Name: "MarkBad", Action: action + "mark-bad", In: []string{"reason"}, Out: []string{"next"}, Func: s.markBad},
			{Name: "Rearm", Action: action + "rearm", In: []string{"tries"}, Func: s.rearm},
			{Name: "PlanRepair", Action: action + "plan-repair", Out: []string{"fallback", "problems"}, Func: s.planRepair},
			{Name: "Repair", Action: action + "repair", Out: []string{"transaction"}, Func: s.repair},
			{Name: "ListHistory", Action: action + "list-history", In: []string{"number"}, Out: []string{"boots", "fallbacks"}, Func: s.listHistory},
		},
		Properties: []bus.Property{
			{Name: "Version", Type: "s", Const: true, Get: func() any { return buildinfo.Version }},
			property("Booted", "s", func(s assess.Status) any { return s.Boot.Deployment }),
			property("BootID", "s", func(s assess.Status) any { return s.Boot.BootID }),
			property("Verdict", "s", func(s assess.Status) any { return string(s.Boot.Outcome) }),
			property("Reason", "s", func(s assess.Status) any { return s.Boot.Reason }),
			property("Counted", "b", func(s assess.Status) any { return s.Boot.Trial.Counted }),
			property("TriesLeft", "u", func(s assess.Status) any { return uint32(max(0, s.Boot.Trial.TriesLeft)) }),
			property("TriesDone", "u", func(s assess.Status) any { return uint32(max(0, s.Boot.Trial.TriesDone)) }),
			property("EntryState", "s", func(st assess.Status) any { return string(s.node.EntryState(st.Boot.Entry)) }),
			property("Boot", "a{sv}", func(s assess.Status) any { return bus.Dict(s.Boot) }),
			property("LastFallback", "a{sv}", func(s assess.Status) any { return fallback(s.LastFallback) }),
			{Name: "Transaction", Type: "o", Get: func() any { return s.jobs.Running() }},
			property("Quarantined", "aa{sv}", func(s assess.Status) any { return bus.Dicts(s.Quarantined) }),
		},
		Signals: []bus.Signal{
			{Name: "Assessed", Args: []bus.Arg{{Name: "verdict", Type: "s"}, {Name: "reason", Type: "s"}, {Name: "boot", Type: "a{sv}"}}},
			{Name: "FellBack", Args: []bus.Arg{{Name: "fallback", Type: "a{sv}"}}},
			bus.CompletedSignal,
		},
	}
}

func (s *Service) now() assess.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// fallback is a fallback for everybody: without lines of the journal, which not
// everybody may read.
func fallback(e *history.Event) dict {
	if e == nil || e.Fallback == nil {
		return dict{}
	}
	f := *e.Fallback
	d := bus.Dict(f)
	delete(d, "failed_boot")
	if f.FailedBoot != nil {
		d["failed_boot_id"] = dbus.MakeVariant(f.FailedBoot.BootID)
	}
	d["time"], d["boot_id"] = dbus.MakeVariant(e.Time.Format(time.RFC3339)), dbus.MakeVariant(e.BootID)
	return d
}

// watchName signals changes once the service has its name. It returns when the connection
// ends.
func (s *Service) watchName(signals <-chan *dbus.Signal) {
	for sig := range signals {
		if sig.Name == "org.freedesktop.DBus.NameAcquired" && len(sig.Body) == 1 && sig.Body[0] == Name {
			s.refresh()
		}
	}
}

// refresh reads the state of the node and signals changes.
func (s *Service) refresh() {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	status := s.read()
	s.jobs.LogError(s.object.Changed(Name))
	s.signal(status)
}

// read reads the state of the node. It keeps the old state of what can't be read.
func (s *Service) read() assess.Status {
	status, err := s.node.Status()
	if err := cmp.Or(err, status.Unreadable); err != nil {
		s.log.Warn("cannot read all of the node's state", "error", err)
	}
	if err == nil {
		s.mu.Lock()
		s.status = status
		s.mu.Unlock()
	}
	return status
}

// watch refreshes the properties whenever the record of this boot or the history
// changes, until the watch is closed.
func (s *Service) watch(changes *inotify.Watcher) {
	changes.Follow(s.matters, func() {
		s.refresh()
		s.watchDirs(changes)
	})
}

func (s *Service) watchDirs(changes *inotify.Watcher) {
	for _, dir := range []string{assess.StateDir, assess.HistoryDir} {
		if err := changes.Add(filepath.Join(s.node.Root, dir)); err != nil {
			s.log.Warn("cannot watch for changes by others", "error", err)
		}
	}
}

// matters filters events: it skips files of the service itself, and temporary files.
func (s *Service) matters(e inotify.Event) bool {
	return e.Name == "" || e.Name == assess.StateFile || e.Name == history.FileName
}
