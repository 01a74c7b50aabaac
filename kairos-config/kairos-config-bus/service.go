package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-config/internal/compare"
	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/kairos-config/internal/staging"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/exit"
)

// service is io.kairos.Config1: this node's config on the bus.
type service struct {
	places
	bus    *bus.Service
	object *bus.Object
	jobs   *bus.Transactions
	log    *slog.Logger
	asking chan struct{} // a place for each call that runs a program

	refreshing sync.Mutex // states are read one after the other

	mu    sync.Mutex
	state state
}

const (
	// maxAsking is how many calls run a program at once; others wait.
	maxAsking = 2
	// maxTime is how long a call may take that is no transaction.
	maxTime = time.Minute
)

func (s *service) describe() bus.Interface {
	return bus.Interface{
		Name: busName,
		Methods: []bus.Method{
			{Name: "Show", Action: action + "show", In: []string{"options"}, Out: []string{"config"}, Func: s.show("show")},
			{Name: "Reveal", Action: action + "reveal", In: []string{"options"}, Out: []string{"config"}, Func: s.show("show", "--reveal")},
			{Name: "Validate", MaxBody: maxBody, Action: action + "validate", In: []string{"configs"}, Out: []string{"valid", "problems"}, Func: s.validate},
			{Name: "Diff", MaxBody: maxBody, Action: action + "diff", In: []string{"configs", "options"}, Out: []string{"values", "files"}, Func: s.diff},
			{Name: "Stage", MaxBody: maxBody, Action: action + "stage", In: []string{"configs", "options"}, Out: []string{"transaction"}, Func: s.stage},
			{Name: "Discard", Action: action + "discard", Out: []string{"transaction"}, Func: s.discard},
			{Name: "Rollback", Action: action + "rollback", In: []string{"generation"}, Out: []string{"transaction"}, Func: s.rollback},
			{Name: "Apply", MaxBody: maxBody, Action: action + "apply", Widens: widensApply, In: []string{"configs", "options"}, Out: []string{"transaction"}, Func: s.apply},
		},
		Properties: []bus.Property{
			{Name: "Version", Type: "s", Const: true, Get: func() any { return buildinfo.Version }},
			{Name: "Booted", Type: "s", Get: func() any { return s.now().booted }},
			{Name: "Staged", Type: "s", Get: func() any { return s.now().staged }},
			{Name: "Generations", Type: "aa{sv}", Get: func() any { return s.now().generations }},
			{Name: "Stages", Type: "aa{sv}", Get: func() any { return s.now().stages }},
			{Name: "Transaction", Type: "o", Get: func() any { return s.jobs.Running() }},
		},
		Signals: []bus.Signal{bus.CompletedSignal},
	}
}

// widensApply asks for an action of its own where the steps of the configs run
// at once, and not only what could is told.
func widensApply(details map[string]string) []string {
	if _, given := details["now"]; given && details["now"] != "false" {
		return []string{action + "apply-now"}
	}
	return nil
}

type (
	options = map[string]dbus.Variant
	dicts   = []map[string]dbus.Variant
)

// ask runs kairos-config for a call that waits for it.
func (s *service) ask(ctx context.Context, r request) ([]byte, error) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	return s.run(ctx, r)
}

// show never fetches anything: a call does not wait for a network.
func (s *service) show(args ...string) func(context.Context, *bus.Call, options) (string, error) {
	return func(ctx context.Context, _ *bus.Call, given options) (string, error) {
		origin := false
		if err := (bus.Options{"origin": &origin}).Decode(given); err != nil {
			return "", err
		}
		r := request{args: append(args[:len(args):len(args)], "--offline", "--quiet")}
		if origin {
			r.args = append(r.args, "--origin")
		}
		out, err := s.ask(ctx, r)
		return string(out), err
	}
}

func (s *service) validate(ctx context.Context, _ *bus.Call, configs map[string]string) (bool, dicts, error) {
	if len(configs) == 0 {
		return false, nil, exit.Usagef("no configs given")
	}
	r := newRequest("validate", configs)
	if err := r.decode(nil, nil); err != nil {
		return false, nil, err
	}
	out, err := s.ask(ctx, r)
	if len(out) == 0 {
		return false, nil, err
	}
	var result stage.Validation // invalid configs end it with 1
	if err := decode(out, &result); err != nil {
		return false, nil, err
	}
	return result.Valid, bus.Dicts(result.Problems), nil
}

func (s *service) diff(ctx context.Context, _ *bus.Call, configs map[string]string, given options) (values, files dicts, err error) {
	r := newRequest("diff", configs)
	if err := r.decode(given, bus.Options{"remove": &r.remove}); err != nil {
		return nil, nil, err
	}
	out, err := s.ask(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	var result compare.Result
	if err := decode(out, &result); err != nil {
		return nil, nil, err
	}
	return bus.Dicts(result.Values), bus.Dicts(result.Files), nil
}

// identified is what stage, discard and rollback print.
type identified struct {
	ID string `json:"id"` // of the generation, "" for the plain configs
	*generation.Generation
}

func (s *service) stage(_ context.Context, c *bus.Call, configs map[string]string, given options) (dbus.ObjectPath, error) {
	r := newRequest("stage", configs)
	if err := r.decode(given, bus.Options{"remove": &r.remove}); err != nil {
		return "", err
	}
	if len(r.configs)+len(r.remove) == 0 {
		return "", exit.Usagef("no configs to stage")
	}
	return s.do(c, r, &identified{})
}

func (s *service) discard(_ context.Context, c *bus.Call) (dbus.ObjectPath, error) {
	return s.do(c, newRequest("discard", nil), &identified{})
}

func (s *service) rollback(_ context.Context, c *bus.Call, to string) (dbus.ObjectPath, error) {
	r := newRequest("rollback", nil)
	if to != "" {
		if err := generation.CheckID(to); err != nil && to != staging.Plain {
			return "", exit.WithCode(err, exit.Usage)
		}
		r.args = append(r.args, to)
	}
	return s.do(c, r, &identified{})
}

// apply leaves this service's sandbox, because the steps of configs do: they
// write anywhere, and start what outlives them.
func (s *service) apply(_ context.Context, c *bus.Call, configs map[string]string, given options) (dbus.ObjectPath, error) {
	r := newRequest("apply", configs)
	if err := r.decode(given, bus.Options{"now": &r.outside, "remove": &r.remove}); err != nil {
		return "", err
	}
	if r.outside {
		r.args = append(r.args, "--now")
	}
	return s.do(c, r, &stage.Applied{})
}

// do begins a transaction that runs kairos-config.
func (s *service) do(c *bus.Call, r request, result any) (dbus.ObjectPath, error) {
	return s.jobs.Begin(c, r.args[0], func(ctx context.Context) (options, error) {
		out, err := s.run(ctx, r)
		if len(out) == 0 {
			return nil, err
		}
		// A failed step is told in the result.
		if wrong := decode(out, result); wrong != nil {
			return nil, errors.Join(err, wrong)
		}
		return bus.Dict(result), err
	})
}

// decode reads what kairos-config printed.
func decode(out []byte, result any) error {
	if err := json.Unmarshal(out, result); err != nil {
		return fmt.Errorf("read the output of kairos-config: %w", err)
	}
	return nil
}
