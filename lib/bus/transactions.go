package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/sdnotify"
)

// Transactions are a service's long work, one at a time. Each is an object
// beneath that of the service, at Transaction/ID, with the interface
// NAME.Transaction. Those that have ended stay for a while.
type Transactions struct {
	Service *Service
	// Object is that of the service: its interface of the service's name has
	// the property Transaction (Running) and the signal of CompletedSignal.
	Object *Object
	// Cancel is what polkit is asked about callers who cancel.
	Cancel string
	// Refresh is called before the end is told: who hears of it finds the
	// properties that it led to.
	Refresh func()
	Log     *slog.Logger

	mu   sync.Mutex
	list []*transaction // of late, oldest first
	busy bool
}

// CompletedSignal tells of the end of a transaction on the service's object.
var CompletedSignal = Signal{Name: "Completed", Args: []Arg{
	{Name: "transaction", Type: "o"}, {Name: "status", Type: "i"}, {Name: "error", Type: "s"}, {Name: "result", Type: "a{sv}"},
}}

// keptTransactions is how many transactions stay on the bus after their end.
const keptTransactions = 16

// transaction is one of them.
type transaction struct {
	all       *Transactions
	operation string
	by        Caller
	cancel    context.CancelFunc
	object    *Object

	mu        sync.Mutex
	completed bool
	status    int32
	text      string // the error, ""
}

func (t *Transactions) name() string { return t.Service.config.Name }

// Begin begins a transaction, which outlives the call and the caller, and
// returns its object. Where it is refused, work does not run.
func (t *Transactions) Begin(c *Call, operation string, work func(context.Context) (map[string]dbus.Variant, error)) (dbus.ObjectPath, error) {
	running, cancel := context.WithCancel(t.Service.Context())
	one := &transaction{all: t, operation: operation, by: c.Caller, cancel: cancel}
	if err := t.add(one); err != nil {
		cancel()
		return "", err
	}
	t.Tell(t.Object.Changed(t.name()))
	release := t.Service.Hold()
	go func() { // Run waits for the hold
		defer release()
		defer cancel()
		sdnotify.Status("Running: %s", operation)
		result, err := work(running)
		if result == nil {
			result = map[string]dbus.Variant{}
		}
		one.finish(result, exit.Cancelled(running, err))
	}()
	return one.object.Path(), nil
}

// add puts a transaction on the bus in the place of the oldest one that has
// ended. No other has its name, of an earlier instance of the service neither.
func (t *Transactions) add(one *transaction) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy {
		return exit.WithCode(fmt.Errorf("another transaction of this service is running"), exit.Busy)
	}
	t.busy = true
	one.object = t.Service.Export(t.Object.Path()+"/Transaction/"+dbus.ObjectPath(rand.Text()), one.describe())
	if t.list = append(t.list, one); len(t.list) > keptTransactions {
		t.list[0].object.Remove()
		t.list = slices.Delete(t.list, 0, 1)
	}
	return nil
}

// Running returns the transaction that runs, or "/".
func (t *Transactions) Running() dbus.ObjectPath {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.busy {
		return "/"
	}
	return t.list[len(t.list)-1].object.Path()
}

// Tell logs that a signal could not be sent; a bus that is gone has nobody to
// hear it.
func (t *Transactions) Tell(err error) {
	if err != nil && !errors.Is(err, dbus.ErrClosed) {
		t.Log.Warn("signal", "error", err)
	}
}

// finish shows the end. Whoever hears of it can begin another transaction.
func (one *transaction) finish(result map[string]dbus.Variant, err error) {
	t := one.all
	one.mu.Lock()
	one.completed, one.status = true, int32(exit.Code(err))
	if err != nil {
		one.text = Text(err)
	}
	status, text := one.status, one.text
	one.mu.Unlock()
	t.Log.Info("transaction", "operation", one.operation, "user", one.by.UID, "process", one.by.PID, "status", status)
	t.mu.Lock()
	t.busy = false
	t.mu.Unlock()
	t.Refresh()
	t.Tell(one.object.Changed(t.name() + ".Transaction"))
	t.Tell(one.object.Emit(t.name()+".Transaction", "Completed", status, text, result))
	t.Tell(t.Object.Emit(t.name(), "Completed", one.object.Path(), status, text, result))
	sdnotify.Status("Idle")
}

func (one *transaction) describe() Interface {
	get := func(name, kind string, constant bool, value func() any) Property {
		return Property{Name: name, Type: kind, Const: constant, Get: func() any {
			one.mu.Lock()
			defer one.mu.Unlock()
			return value()
		}}
	}
	return Interface{
		Name: one.all.name() + ".Transaction",
		Methods: []Method{{Name: "Cancel", Action: one.all.Cancel, Func: one.interrupt, Widens: func(details map[string]string) []string {
			details["operation"], details["user"] = one.operation, fmt.Sprint(one.by.UID) // nothing more: a rule can tell whose it is
			return nil
		}}},
		Properties: []Property{
			get("Operation", "s", true, func() any { return one.operation }),
			get("StartedBy", "(uu)", true, func() any { return struct{ UID, PID uint32 }(one.by) }),
			get("State", "s", false, func() any {
				if one.completed {
					return "completed"
				}
				return "running"
			}),
			get("ExitStatus", "i", false, func() any { return one.status }),
			get("Error", "s", false, func() any { return one.text }),
		},
		Signals: []Signal{{Name: "Completed", Args: CompletedSignal.Args[1:]}},
	}
}

func (one *transaction) interrupt(context.Context, *Call) error {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.completed {
		return exit.WithCode(fmt.Errorf("the transaction has ended"), exit.Nothing)
	}
	one.cancel()
	return nil
}
