package service

import (
	"cmp"
	"context"
	"errors"

	"github.com/godbus/dbus/v5"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

// known gives the error of a system that is no deployment its status.
func known(err error) error {
	if errors.Is(err, deployment.ErrNotBooted) {
		return exit.WithCode(err, exit.Nothing)
	}
	return err
}

// marked is the end of a call by which a person decides: who called learns of
// it after everybody can see it.
func (s *Service) marked(c *bus.Call, what string, err error) error {
	if err != nil {
		return known(err)
	}
	s.log.Info(what, "caller", c.Sender)
	s.refresh()
	return nil
}

func (s *Service) markGood(ctx context.Context, c *bus.Call) error {
	_, err := s.node.MarkGood(ctx)
	return s.marked(c, "this boot was marked good", err)
}

// markBad returns the entry that boots next.
func (s *Service) markBad(ctx context.Context, c *bus.Call, reason string) (string, error) {
	boot, err := s.node.MarkBad(ctx, reason)
	return boot.Trial.Alternative, s.marked(c, "this boot was marked bad", err)
}

func (s *Service) rearm(ctx context.Context, c *bus.Call, tries uint32) error {
	if tries == 0 {
		tries = 3
	}
	_, err := s.node.Rearm(ctx, int(min(tries, 1000)))
	return s.marked(c, "the next boots are on trial", err)
}

func (s *Service) planRepair(ctx context.Context, _ *bus.Call) (string, dicts, error) {
	r, err := s.node.Repair(ctx, true)
	if err != nil {
		return "", nil, known(err)
	}
	return r.Fallback, bus.Dicts(r.Problems), nil
}

// repair begins a repair, which outlives the call and the caller: boot files
// may have to be fetched.
func (s *Service) repair(_ context.Context, c *bus.Call) (dbus.ObjectPath, error) {
	return s.jobs.Begin(c, "repair", func(ctx context.Context) (dict, error) {
		r, err := s.node.Repair(ctx, false)
		return dict{"problems": dbus.MakeVariant(bus.Dicts(r.Problems))}, known(cmp.Or(err, r.Failed))
	})
}

// maxBoots is how many boots are returned: more would make a message too large
// for a bus with its default limits.
const maxBoots = 1000

func (s *Service) listHistory(_ context.Context, _ *bus.Call, number uint32) (boots, fallbacks dicts, err error) {
	b, f, _, err := s.node.History()
	if err != nil {
		return nil, nil, err
	}
	limit := int(min(number, maxBoots))
	if limit == 0 {
		limit = maxBoots
	}
	b, f = history.Newest(b, f, limit)
	return bus.Dicts(b), bus.Dicts(f), nil
}
