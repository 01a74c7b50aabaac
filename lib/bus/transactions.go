package bus

import (
	"cmp"
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

// Transactions manages the long work of a service, one transaction at a time, and shows
// transactions of other processes (Follow). Each is an object at Transaction/ID beneath
// the service's object, with the interface NAME.Transaction. Ended transactions stay
// for a while.
type Transactions struct {
	Service *Service
	// Object is the object of the service. Its interface of the service's name has the
	// property Transaction (Running) and the signal of CompletedSignal.
	Object *Object
	// Cancel is the polkit action of cancelling a transaction.
	Cancel string
	// Refresh is called before the end of a transaction is signalled, so that listeners
	// find the new properties.
	Refresh func()
	Log     *slog.Logger

	mu   sync.Mutex
	list []*Transaction // running and recently ended transactions, oldest first
	busy bool           // a transaction of this service runs, or is about to
}

// CompletedSignal is the signal of the service's object about the end of a transaction.
var CompletedSignal = Signal{Name: "Completed", Args: []Arg{
	{Name: "transaction", Type: "o"}, {Name: "status", Type: "i"}, {Name: "error", Type: "s"}, {Name: "result", Type: "a{sv}"},
}}

// keptTransactions is how many ended transactions stay on the bus.
const keptTransactions = 16

// Work does the work of a transaction. Its result is signalled to listeners, also
// beside an error.
type Work func(context.Context) (map[string]dbus.Variant, error)

// Transaction describes a transaction.
type Transaction struct {
	ID         string // last part of its path; "": an unused one
	Operation  string
	By         Caller
	Properties []Property // beside those that every transaction has
	Signals    []Signal
	// Cancel interrupts the transaction; if nil, the context of its work is cancelled.
	Cancel func() error

	all *Transactions

	mu        sync.Mutex
	object    *Object // nil until it is on the bus
	completed bool
	status    int32
	text      string // text of the error, "" for none
}

func (t *Transactions) name() string { return t.Service.config.Name }
func (t *Transactions) kind() string { return t.name() + ".Transaction" }

// errRunning says that another transaction runs.
var errRunning = errors.New("another transaction of this service is running")

// Begin starts a transaction, which outlives the call and the caller, and returns its
// object. Where it returns an error, work does not run.
func (t *Transactions) Begin(c *Call, operation string, work Work) (dbus.ObjectPath, error) {
	return t.Prepare(func() (*Transaction, Work, error) {
		return &Transaction{Operation: operation, By: c.Caller}, work, nil
	})
}

// Prepare is Begin for a transaction that first takes a resource, such as a lock: where
// prepare fails, no transaction is started.
func (t *Transactions) Prepare(prepare func() (*Transaction, Work, error)) (dbus.ObjectPath, error) {
	if !t.reserve() {
		return "", exit.WithCode(errRunning, exit.Busy)
	}
	one, work, err := prepare()
	if err != nil {
		t.free()
		return "", err
	}
	running, cancel := context.WithCancel(t.Service.Context())
	if one.Cancel == nil {
		one.Cancel = func() error { cancel(); return nil }
	}
	t.add(one)
	release := t.Service.Hold()
	go func() { // Run waits for the hold
		defer release()
		defer cancel()
		sdnotify.Status("Running: %s", one.Operation)
		result, err := work(running)
		err = t.Service.config.Explanations.Explain(exit.Cancelled(running, err))
		t.Log.Info("transaction", "operation", one.Operation, "user", one.By.UID, "process", one.By.PID, "status", exit.Code(err))
		t.free()
		one.finish(result, err)
	}()
	return one.object.Path(), nil
}

// Follow shows a transaction of another process. follow returns when that transaction
// has ended, or when its context ends, which happens only when the service stops.
func (t *Transactions) Follow(one *Transaction, follow Work) {
	t.mu.Lock()
	known := slices.ContainsFunc(t.list, func(other *Transaction) bool { return other.ID == one.ID })
	t.mu.Unlock()
	if known {
		return
	}
	t.add(one)
	release := t.Service.Hold()
	go func() {
		defer release()
		result, err := follow(t.Service.Context())
		if t.Service.Context().Err() == nil {
			one.finish(result, err)
		}
	}()
}

func (t *Transactions) reserve() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.busy
	t.busy = true
	return !was
}

func (t *Transactions) free() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = false
}

// add exports a transaction, and removes the oldest ended ones. A transaction without
// an ID gets a path that no other transaction has, not even one of an earlier instance
// of the service.
func (t *Transactions) add(one *Transaction) {
	one.mu.Lock()
	one.all = t
	path := t.Object.Path() + "/Transaction/" + dbus.ObjectPath(cmp.Or(one.ID, rand.Text()))
	one.object = t.Service.Export(path, one.describe())
	one.mu.Unlock()
	t.mu.Lock()
	t.list = append(t.list, one)
	for len(t.list) > keptTransactions && t.list[0].over() {
		t.list[0].object.Remove()
		t.list = slices.Delete(t.list, 0, 1)
	}
	t.mu.Unlock()
	t.LogError(t.Object.Changed(t.name(), "Transaction"))
}

// Running returns the path of the latest running transaction, or "/".
func (t *Transactions) Running() dbus.ObjectPath {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range slices.Backward(t.list) {
		if !one.over() {
			return one.object.Path()
		}
	}
	return "/"
}

// LogError logs that a signal could not be sent, unless the connection to the bus is
// closed.
func (t *Transactions) LogError(err error) {
	if err != nil && !errors.Is(err, dbus.ErrClosed) {
		t.Log.Warn("signal", "error", err)
	}
}

func (one *Transaction) over() bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.completed
}

// Changed signals changed properties of the transaction, once it is on the bus.
func (one *Transaction) Changed() {
	if o := one.shown(); o != nil {
		one.all.LogError(o.Changed(one.all.kind()))
	}
}

// Emit sends a signal of the transaction, once it is on the bus.
func (one *Transaction) Emit(name string, args ...any) {
	if o := one.shown(); o != nil {
		one.all.LogError(o.Emit(one.all.kind(), name, args...))
	}
}

func (one *Transaction) shown() *Object {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.object
}

// finish shows the end of the transaction. Listeners can start another one from then
// on.
func (one *Transaction) finish(result map[string]dbus.Variant, err error) {
	t := one.all
	one.mu.Lock()
	one.completed, one.status = true, int32(exit.Code(err))
	if err != nil {
		one.text = Text(err)
	}
	status, text := one.status, one.text
	one.mu.Unlock()
	if result == nil {
		result = map[string]dbus.Variant{}
	}
	t.Refresh()
	t.LogError(t.Object.Changed(t.name(), "Transaction"))
	one.Changed()
	one.Emit("Completed", status, text, result)
	t.LogError(t.Object.Emit(t.name(), "Completed", one.object.Path(), status, text, result))
	sdnotify.Status("Idle")
}

func (one *Transaction) describe() Interface {
	get := func(name, kind string, constant bool, value func() any) Property {
		return Property{Name: name, Type: kind, Const: constant, Get: func() any {
			one.mu.Lock()
			defer one.mu.Unlock()
			return value()
		}}
	}
	return Interface{
		Name: one.all.kind(),
		Methods: []Method{{Name: "Cancel", Action: one.all.Cancel, Func: one.interrupt, Widens: func(details map[string]string) []string {
			details["operation"], details["user"] = one.Operation, fmt.Sprint(one.By.UID) // nothing more: a rule can tell whose it is
			return nil
		}}},
		Properties: append([]Property{
			get("Operation", "s", true, func() any { return one.Operation }),
			get("StartedBy", "(uu)", true, func() any { return struct{ UID, PID uint32 }(one.By) }),
			get("State", "s", false, func() any {
				if one.completed {
					return "completed"
				}
				return "running"
			}),
			get("ExitStatus", "i", false, func() any { return one.status }),
			get("Error", "s", false, func() any { return one.text }),
		}, one.Properties...),
		Signals: append([]Signal{{Name: "Completed", Args: CompletedSignal.Args[1:]}}, one.Signals...),
	}
}

func (one *Transaction) interrupt(context.Context, *Call) error {
	if one.over() {
		return exit.WithCode(errors.New("the transaction has ended"), exit.Nothing)
	}
	return one.Cancel()
}
