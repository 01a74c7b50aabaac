package service

import (
	"cmp"
	"context"

	"github.com/godbus/dbus/v5"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/bus"
)

// marked ends a call with an operator's verdict: the caller gets the answer after the
// properties have changed.
func (s *Service) marked(c *bus.Call, what string, err error) error {
	if err != nil {
		return err
	}
	s.log.Info(what, "caller", c.Sender)
	s.refresh()
	return nil
}

func (s *Service) markGood(ctx context.Context, c *bus.Call) error {
	_, err := s.node.MarkGood(ctx)
	return s.marked(c, "this boot was marked good", err)
}

// markBad marks the boot bad and returns the entry that boots next.
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
		return "", nil, err
	}
	return r.Fallback, bus.Dicts(r.Problems), nil
}

// repair starts a repair, which outlives the call and the caller, since it may download
// boot files.
func (s *Service) repair(_ context.Context, c *bus.Call) (dbus.ObjectPath, error) {
	return s.jobs.Begin(c, "repair", func(ctx context.Context) (dict, error) {
		r, err := s.node.Repair(ctx, false)
		return dict{"problems": dbus.MakeVariant(bus.Dicts(r.Problems))}, cmp.Or(err, r.Failed)
	})
}

// maxBoots is how many boots are returned: more could exceed the default size limit of
// messages.
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
