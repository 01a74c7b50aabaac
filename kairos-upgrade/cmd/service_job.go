package cmd

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"
)

// job is a transaction on the bus: of this service, or of a process that holds
// the lock.
type job struct {
	bus.Transaction

	mu    sync.Mutex
	state transaction.State
}

func (s *service) bar() *progress.Reporter { return progress.New(s.out, "kairos-upgrade", s.quiet) }

func (s *service) logger(out io.Writer) *slog.Logger {
	return logline.New(out, "kairos-upgrade", s.quiet)
}

// do begins a transaction of this service, which outlives the call and the
// caller, and returns its object.
func (s *service) do(c *bus.Call, b begin, work func(context.Context, *deploy.Node) (any, error)) (dbus.ObjectPath, error) {
	return s.jobs.Prepare(func() (*bus.Transaction, bus.Work, error) {
		j := &job{}
		b.by, b.onState, b.bar = &transaction.Caller{UID: c.Caller.UID, PID: c.Caller.PID}, j.update, s.bar()
		b.log = s.logger(b.bar)
		o, err := s.start(context.Background(), s.where, b)
		if err != nil {
			return nil, nil, err
		}
		return j.describe(), func(ctx context.Context) (map[string]dbus.Variant, error) {
			result, err := work(ctx, o.Node)
			o.end(exit.Cancelled(ctx, err)) // gives the lock back: who hears of the end can begin the next one
			return dictOf(result), err
		}, nil
	})
}

func dictOf(result any) map[string]dbus.Variant {
	if result == nil {
		return nil
	}
	return bus.Dict(result)
}

// follow shows the transaction of another process.
func (s *service) follow(board transaction.Board, state *transaction.State) {
	if state == nil || state.PID == os.Getpid() {
		return
	}
	j := &job{state: *state}
	j.Cancel = func() error { return s.interrupt(*state) }
	s.jobs.Follow(j.describe(), func(ctx context.Context) (map[string]dbus.Variant, error) {
		last, err := board.Follow(ctx, *state, j.update)
		return nil, cmp.Or(err, last.Err())
	})
}

// interrupt ends the transaction of another process.
func (s *service) interrupt(state transaction.State) error {
	o, err := s.start(context.Background(), s.where, begin{bar: s.bar(), log: s.log})
	if err != nil {
		return err
	}
	defer o.end(nil)
	if err = o.Store.Interrupt(state.ID); errors.Is(err, store.ErrNotBusy) {
		err = exit.WithCode(err, exit.Nothing)
	}
	return err
}

// update shows how far it is.
func (j *job) update(state transaction.State) {
	j.mu.Lock()
	was := j.state
	j.state = state
	j.mu.Unlock()
	j.Changed()
	if state.Message != was.Message {
		j.Emit("Message", state.Message)
	}
}

// describe says what the bus shows of it, beside what it shows of every
// transaction.
func (j *job) describe() *bus.Transaction {
	get := func(name, kind string, constant bool, value func(transaction.State) any) bus.Property {
		return bus.Property{Name: name, Type: kind, Const: constant, Get: func() any {
			j.mu.Lock()
			defer j.mu.Unlock()
			return value(j.state)
		}}
	}
	count := func(name string, value func(transaction.State) int64) bus.Property {
		return get(name, "t", false, func(s transaction.State) any { return uint64(max(0, value(s))) })
	}
	j.ID, j.Operation, j.By = j.state.ID, j.state.Operation, bus.Caller{UID: j.state.StartedBy.UID, PID: j.state.StartedBy.PID}
	j.Properties = []bus.Property{
		get("Reference", "s", true, func(s transaction.State) any { return s.Reference }),
		get("ProcessID", "u", true, func(s transaction.State) any { return uint32(s.PID) }),
		get("Phase", "s", false, func(s transaction.State) any { return s.Phase }),
		get("Message", "s", false, func(s transaction.State) any { return s.Message }),
		count("BytesDone", func(s transaction.State) int64 { return s.Done }),
		count("BytesTotal", func(s transaction.State) int64 { return s.Total }),
		count("Rate", func(s transaction.State) int64 { return s.Rate }),
		count("ETA", func(s transaction.State) int64 { return s.ETA }),
		count("Reused", func(s transaction.State) int64 { return s.Reused }),
		count("ReusedOf", func(s transaction.State) int64 { return s.ReusedOf }),
	}
	j.Signals = []bus.Signal{{Name: "Message", Args: []bus.Arg{{Name: "text", Type: "s"}}}}
	return &j.Transaction
}
