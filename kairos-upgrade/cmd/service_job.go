package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/sdnotify"
)

// job is a transaction on the bus: of this service, or of a process that holds
// the lock.
type job struct {
	service *service
	own     bool // this service runs it
	cancel  func() error

	object *bus.Object // set by the first update, which its beginner waits for
	mu     sync.Mutex
	state  transaction.State
}

// maxJobs is how many transactions stay on the bus after their end.
const maxJobs = 16

type caller bus.Caller

func (c *caller) transaction() *transaction.Caller {
	return &transaction.Caller{UID: c.UID, PID: c.PID}
}

func (s *service) bar() *progress.Reporter { return progress.New(s.out, "kairos-upgrade", s.quiet) }

func (s *service) logger(out io.Writer) *slog.Logger {
	return logline.New(out, "kairos-upgrade", s.quiet)
}

func (j *job) path() dbus.ObjectPath { return j.object.Path() }

// update shows a new state. The end of a transaction of this service is shown
// by finish, when the lock is free again: who starts the next one then is not
// refused.
func (j *job) update(state transaction.State) {
	if j.own && state.Completed {
		return
	}
	j.show(state)
}

func (j *job) show(state transaction.State) {
	j.mu.Lock()
	was := j.state
	j.state = state
	j.mu.Unlock()
	if j.object == nil {
		j.object = j.service.bus.Export(dbus.ObjectPath(transactionPath+state.ID), j.describe())
		j.service.add(j)
	}
	j.warn(j.object.Changed(transactionInterface))
	if state.Message != was.Message {
		j.warn(j.object.Emit(transactionInterface, "Message", state.Message))
	}
}

// finish shows the end. result may be nil.
func (j *job) finish(result any, err error) {
	state := j.now()
	state.Completed, state.Status, state.ETA, state.Rate = true, exit.Code(err), 0, 0
	if err != nil {
		state.Error, state.Hint = err.Error(), exit.HintOf(err)
	}
	j.complete(state, result)
}

func (j *job) complete(state transaction.State, result any) {
	j.show(state)
	s, dict := j.service, map[string]dbus.Variant{}
	if result != nil {
		dict = bus.Dict(result)
	}
	text := ""
	if err := state.Err(); err != nil {
		text = bus.Text(err)
	}
	j.warn(s.object.Changed(busName))
	j.warn(j.object.Emit(transactionInterface, "Completed", int32(state.Status), text, dict))
	j.warn(s.object.Emit(busName, "Completed", j.path(), int32(state.Status), text, dict))
	sdnotify.Status("Idle")
}

func (j *job) warn(err error) {
	if err != nil && !errors.Is(err, dbus.ErrClosed) {
		j.service.log.Warn("signal", "error", err)
	}
}

func (j *job) now() transaction.State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

func (j *job) describe() bus.Interface {
	get := func(name, kind string, constant bool, value func(transaction.State) any) bus.Property {
		return bus.Property{Name: name, Type: kind, Const: constant, Get: func() any { return value(j.now()) }}
	}
	count := func(name string, value func(transaction.State) int64) bus.Property {
		return get(name, "t", false, func(s transaction.State) any { return uint64(max(0, value(s))) })
	}
	type who struct{ UID, PID uint32 }
	return bus.Interface{
		Name: transactionInterface,
		Methods: []bus.Method{
			{Name: "Cancel", Action: action + "cancel", Func: j.interrupt, Widens: func(details map[string]string) []string {
				now := j.now()
				details["operation"], details["user"] = now.Operation, fmt.Sprint(now.StartedBy.UID)
				return nil
			}},
		},
		Properties: []bus.Property{
			get("Operation", "s", true, func(s transaction.State) any { return s.Operation }),
			get("Reference", "s", true, func(s transaction.State) any { return s.Reference }),
			get("StartedBy", "(uu)", true, func(s transaction.State) any { return who(s.StartedBy) }),
			get("ProcessID", "u", true, func(s transaction.State) any { return uint32(s.PID) }),
			get("State", "s", false, func(s transaction.State) any { return stateName(s) }),
			get("Phase", "s", false, func(s transaction.State) any { return s.Phase }),
			get("Message", "s", false, func(s transaction.State) any { return s.Message }),
			count("BytesDone", func(s transaction.State) int64 { return s.Done }),
			count("BytesTotal", func(s transaction.State) int64 { return s.Total }),
			count("Rate", func(s transaction.State) int64 { return s.Rate }),
			count("ETA", func(s transaction.State) int64 { return s.ETA }),
			count("Reused", func(s transaction.State) int64 { return s.Reused }),
			count("ReusedOf", func(s transaction.State) int64 { return s.ReusedOf }),
			get("ExitStatus", "i", false, func(s transaction.State) any { return int32(s.Status) }),
			get("Error", "s", false, func(s transaction.State) any { return s.Error }),
		},
		Signals: []bus.Signal{
			{Name: "Message", Args: []bus.Arg{{Name: "text", Type: "s"}}},
			{Name: "Completed", Args: []bus.Arg{{Name: "status", Type: "i"}, {Name: "error", Type: "s"}, {Name: "result", Type: "a{sv}"}}},
		},
	}
}

func stateName(s transaction.State) string {
	if s.Completed {
		return "completed"
	}
	return "running"
}

func (j *job) interrupt(context.Context, *bus.Call) error {
	err := store.ErrNotBusy
	if !j.now().Completed {
		err = j.cancel()
	}
	if errors.Is(err, store.ErrNotBusy) {
		err = exit.WithCode(err, exit.Nothing)
	}
	return err
}

// add puts a transaction among those of late, and takes the oldest that are
// over from the bus.
func (s *service) add(j *job) {
	s.mu.Lock()
	s.jobs = append(s.jobs, j)
	var gone []*job
	for len(s.jobs)-len(gone) > maxJobs && s.jobs[len(gone)].now().Completed {
		gone = append(gone, s.jobs[len(gone)])
	}
	s.jobs = slices.Clone(s.jobs[len(gone):])
	s.mu.Unlock()
	for _, g := range gone {
		g.object.Remove()
	}
	j.warn(s.object.Changed(busName, "Transaction"))
}

// running returns the path of the latest transaction that is not over.
func (s *service) running() dbus.ObjectPath {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range slices.Backward(s.jobs) {
		if !j.now().Completed {
			return j.path()
		}
	}
	return "/"
}
