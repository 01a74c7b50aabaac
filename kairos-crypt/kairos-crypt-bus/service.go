package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/bus"
)

// service is io.kairos.Crypt1: this node's encrypted volumes on the bus.
type service struct {
	places
	bus    *bus.Service
	object *bus.Object
	jobs   *bus.Transactions
	log    *slog.Logger

	refreshing sync.Mutex // held while the state is read

	mu      sync.Mutex
	staged  string // id of the deployment that boots next
	volumes map[string]*volume
	known   bool // the volumes have been read once
}

type options = map[string]dbus.Variant

func (s *service) describe() bus.Interface {
	path := bus.Arg{Name: "volume", Type: "o"}
	return bus.Interface{
		Name: busName,
		Methods: []bus.Method{
			{Name: "Refresh", Action: action + "refresh", Func: func(context.Context, *bus.Call) error { s.refresh(); return nil }},
		},
		Properties: []bus.Property{
			{Name: "Version", Type: "s", Const: true, Get: func() any { return buildinfo.Version }},
			{Name: "Staged", Type: "s", Get: func() any { s.mu.Lock(); defer s.mu.Unlock(); return s.staged }},
			{Name: "Volumes", Type: "ao", Get: func() any { return s.paths() }},
			{Name: "Transaction", Type: "o", Get: func() any { return s.jobs.Running() }},
		},
		Signals: []bus.Signal{
			bus.CompletedSignal,
			{Name: "VolumeUnlocked", Args: []bus.Arg{path, {Name: "name", Type: "s"}, {Name: "slot", Type: "u"}}},
			{Name: "UnlockFailed", Args: []bus.Arg{path, {Name: "name", Type: "s"}, {Name: "reason", Type: "s"}}},
			{Name: "SlotsChanged", Args: []bus.Arg{path}},
		},
	}
}

// do starts a transaction that executes kairos-crypt.
func (s *service) do(c *bus.Call, r *request, result any) (dbus.ObjectPath, error) {
	path, err := s.jobs.Begin(c, r.operation, func(ctx context.Context) (options, error) {
		defer r.close()
		ctx, cancel := context.WithTimeout(ctx, maxTransaction)
		defer cancel()
		out, err := r.run(ctx)
		if err != nil {
			return nil, err
		}
		if err := decode(out, result); err != nil {
			return nil, err
		}
		return bus.Dict(result), nil
	})
	if err != nil { // it has not begun
		r.close()
	}
	return path, err
}
