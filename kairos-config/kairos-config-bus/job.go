package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

// job is a transaction on the bus.
type job struct {
	service   *service
	operation string
	by        bus.Caller
	cancel    context.CancelFunc
	object    *bus.Object

	mu        sync.Mutex
	completed bool
	status    int32
	text      string // the error, ""
}

// maxJobs is how many transactions stay on the bus after their end.
const maxJobs = 16

// newID names a transaction so that no other has its name, of an earlier
// instance of the service neither.
func newID() string { return rand.Text() }

// do begins a transaction, which outlives the call and the caller, and returns
// its object. There is one at a time.
func (s *service) do(ctx context.Context, c *bus.Call, r request, result any) (dbus.ObjectPath, error) {
	who, err := c.Caller(ctx)
	if err != nil {
		return "", err
	}
	running, cancel := context.WithCancel(s.bus.Context())
	j := &job{service: s, operation: r.args[0], by: who, cancel: cancel}
	if err := s.add(j); err != nil {
		cancel()
		return "", err
	}
	s.tell(s.object.Changed(busName))
	release := s.bus.Hold()
	go func() { // Run waits for the hold
		defer release()
		defer cancel()
		cmdline.Status("Running: %s", j.operation)
		out, err := s.run(running, r)
		err = cmdline.Interrupted(running, err)
		dict := map[string]dbus.Variant{}
		if len(out) > 0 { // a failed step is told in the result
			if wrong := decode(out, result); wrong != nil {
				err = errors.Join(err, wrong)
			} else {
				dict = bus.Dict(result)
			}
		}
		j.finish(dict, err)
	}()
	return j.object.Path(), nil
}

// add puts a transaction on the bus in the place of the oldest one that has
// ended.
func (s *service) add(j *job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return cmdline.WithCode(fmt.Errorf("another transaction of this service is running"), cmdline.ExitBusy)
	}
	s.busy = true
	j.object = s.bus.Export(dbus.ObjectPath(transactionPath+newID()), j.describe())
	if s.jobs = append(s.jobs, j); len(s.jobs) > maxJobs {
		s.jobs[0].object.Remove()
		s.jobs = slices.Delete(s.jobs, 0, 1)
	}
	return nil
}

// running returns the transaction that runs, or "/".
func (s *service) running() dbus.ObjectPath {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy {
		return "/"
	}
	return s.jobs[len(s.jobs)-1].object.Path()
}

// finish shows the end. Whoever hears of it finds the state that it led to,
// and can begin another transaction.
func (j *job) finish(result map[string]dbus.Variant, err error) {
	s := j.service
	j.mu.Lock()
	j.completed, j.status = true, int32(cmdline.Code(err))
	if err != nil {
		j.text = bus.Text(err)
	}
	status, text := j.status, j.text
	j.mu.Unlock()
	s.log.Info("transaction", "operation", j.operation, "user", j.by.UID, "process", j.by.PID, "status", status)
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
	s.refresh()
	s.tell(j.object.Changed(transactionInterface))
	s.tell(j.object.Emit(transactionInterface, "Completed", status, text, result))
	s.tell(s.object.Emit(busName, "Completed", j.object.Path(), status, text, result))
	cmdline.Status("Idle")
}

// tell tells of a signal that could not be sent; a bus that is gone has
// nobody to hear it.
func (s *service) tell(err error) {
	if err != nil && !errors.Is(err, dbus.ErrClosed) {
		s.log.Warn("signal", "error", err)
	}
}

func (j *job) describe() bus.Interface {
	get := func(name, kind string, constant bool, value func() any) bus.Property {
		return bus.Property{Name: name, Type: kind, Const: constant, Get: func() any {
			j.mu.Lock()
			defer j.mu.Unlock()
			return value()
		}}
	}
	return bus.Interface{
		Name:    transactionInterface,
		Methods: []bus.Method{{Name: "Cancel", Action: action + "cancel", Func: j.interrupt}},
		Properties: []bus.Property{
			get("Operation", "s", true, func() any { return j.operation }),
			get("StartedBy", "(uu)", true, func() any { return struct{ UID, PID uint32 }(j.by) }),
			get("State", "s", false, func() any {
				if j.completed {
					return "completed"
				}
				return "running"
			}),
			get("ExitStatus", "i", false, func() any { return j.status }),
			get("Error", "s", false, func() any { return j.text }),
		},
		Signals: []bus.Signal{{Name: "Completed", Args: []bus.Arg{{Name: "status", Type: "i"}, {Name: "error", Type: "s"}, {Name: "result", Type: "a{sv}"}}}},
	}
}

func (j *job) interrupt(context.Context, *bus.Call) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.completed {
		return cmdline.WithCode(fmt.Errorf("the transaction has ended"), cmdline.ExitNothing)
	}
	j.cancel()
	return nil
}
