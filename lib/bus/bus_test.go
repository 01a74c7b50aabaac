package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
	"github.com/kairos-io/toolkit/lib/exit"
)

const (
	testName = "io.kairos.Test1"
	testPath = "/io/kairos/Test1"
)

// counter is a service for the tests: a number that can be added to.
type counter struct {
	service *Service
	object  *Object
	value   atomic.Int64
	waiting chan struct{} // a call of Wait has begun
	worked  atomic.Int64  // pieces of long work that came to their end
	ran     chan error    // what Run returned
}

// newCounter runs a service until the test ends or it leaves.
func newCounter(t *testing.T, address string, idle time.Duration) (c *counter, stop func()) {
	t.Helper()
	return newCounterWith(t, Config{Name: testName, Address: address, Idle: idle})
}

func newCounterWith(t *testing.T, config Config) (c *counter, stop func()) {
	t.Helper()
	config.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	c = &counter{service: s, waiting: make(chan struct{}, 1), ran: make(chan error, 1)}
	c.object = s.Export(testPath, Interface{
		Name: testName,
		Methods: []Method{
			{Name: "Add", In: []string{"number"}, Out: []string{"sum"}, Func: c.add},
			{Name: "Fail", In: []string{"how"}, Func: c.fail},
			{Name: "Wait", Func: c.wait},
			{Name: "Work", Func: c.work},
			{Name: "Options", In: []string{"options"}, Func: func(_ context.Context, _ *Call, given map[string]dbus.Variant) error { return Options{}.Decode(given) }},
			{Name: "Widen", Action: "io.kairos.test1.narrow", In: []string{"reference", "options"},
				Func: func(_ context.Context, _ *Call, _ string, given map[string]dbus.Variant) error {
					force := false
					return Options{"force": &force, "reference": new(string)}.Decode(given)
				},
				Widens: func(details map[string]string) []string {
					if details["force"] == "true" {
						return []string{"io.kairos.test1.wide"}
					}
					return nil
				}},
			{Name: "Secret", Action: "io.kairos.test1.secret", In: []string{"reference", "number"}, Out: []string{"answer"},
				Func: func(context.Context, *Call, string, int64) (string, error) { return "42", nil }},
		},
		Properties: []Property{
			{Name: "Value", Type: "x", Get: func() any { return c.value.Load() }},
			{Name: "Even", Type: "b", Get: func() any { return c.value.Load()%2 == 0 }},
			{Name: "Version", Type: "s", Const: true, Get: func() any { return "1" }},
			{Name: "Broken", Type: "s", Const: true, Get: func() any { return 1 }},
		},
		Signals: []Signal{{"Added", []Arg{{"number", "x"}}}},
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.ran <- s.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return c, stop
}

func (c *counter) add(_ context.Context, _ *Call, n int64) (int64, error) {
	sum := c.value.Add(n)
	return sum, errors.Join(c.object.Changed(testName), c.object.Emit(testName, "Added", n))
}

func (c *counter) fail(_ context.Context, _ *Call, how string) error {
	switch how {
	case "hint":
		return exit.Hint(errors.New("it is broken"), "mend it")
	case "space":
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	case "busy":
		return exit.WithCode(errors.New("locked"), exit.Busy)
	case "cancelled":
		return fmt.Errorf("work: %w", context.Canceled)
	}
	return dbus.NewError("com.example.Own", []any{"own"})
}

func (c *counter) wait(ctx context.Context, _ *Call) error {
	c.waiting <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (c *counter) work(context.Context, *Call) error {
	release := c.service.Hold()
	time.AfterFunc(3*time.Millisecond, func() { c.worked.Add(1); release() })
	return nil
}

// found returns a client's view of the object, once the service is there.
func found(t *testing.T, conn *dbus.Conn) dbus.BusObject {
	t.Helper()
	if err := bustest.WaitOwner(t.Context(), conn, testName); err != nil {
		t.Fatal(err)
	}
	return conn.Object(testName, testPath)
}

// nameOf is the name of a D-Bus error.
func nameOf(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return fmt.Sprint(err)
}

func TestErrorsByName(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	conn := bustest.Connect(t, address)
	o := found(t, conn)
	const standard = "org.freedesktop.DBus.Error."
	for _, test := range []struct {
		object       dbus.BusObject
		method       string
		args         []any
		name, saying string
	}{
		{o, testName + ".Fail", []any{"hint"}, testName + ".Error.Failed", "it is broken\nhint: mend it"},
		{o, testName + ".Fail", []any{"space"}, testName + ".Error.NoSpace", "no space"},
		{o, testName + ".Fail", []any{"busy"}, testName + ".Error.Busy", "locked"},
		{o, testName + ".Fail", []any{"cancelled"}, testName + ".Error.Cancelled", "work"},
		{o, testName + ".Fail", []any{"own"}, "com.example.Own", "own"},
		{o, testName + ".Add", []any{"text"}, testName + ".Error.InvalidArguments", `"s", not "x"`},
		{o, testName + ".Add", nil, testName + ".Error.InvalidArguments", `"", not "x"`},
		{o, testName + ".Fail", []any{strings.Repeat("x", maxText+1)}, testName + ".Error.InvalidArguments", "4097 bytes"},
		{o, testName + ".Nonsense", nil, standard + "UnknownMethod", "Nonsense"},
		{o, "io.kairos.Nonsense.Add", []any{int64(1)}, standard + "UnknownInterface", "Nonsense"},
		{conn.Object(testName, "/nonsense"), testName + ".Add", []any{int64(1)}, standard + "NoSuchObject", "/nonsense"},
		{o, propertiesInterface + ".Get", []any{testName, "Nonsense"}, standard + "UnknownProperty", "Nonsense"},
		{o, propertiesInterface + ".Set", []any{testName, "Value", dbus.MakeVariant(int64(1))}, standard + "PropertyReadOnly", "Value"},
		{o, propertiesInterface + ".Get", []any{testName, "Broken"}, testName + ".Error.Failed", "announced"},
	} {
		err := test.object.CallWithContext(t.Context(), test.method, 0, test.args...).Err
		if nameOf(err) != test.name || !strings.Contains(fmt.Sprint(err), test.saying) {
			t.Errorf("%s%v: %s: %v; want %s: … %s …", test.method, test.args, nameOf(err), err, test.name, test.saying)
		}
	}
}

func TestIntrospection(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	conn := bustest.Connect(t, address)
	node, err := introspect.Call(found(t, conn))
	if err != nil {
		t.Fatal(err)
	}
	var have *introspect.Interface
	for i := range node.Interfaces {
		if node.Interfaces[i].Name == testName {
			have = &node.Interfaces[i]
		}
	}
	if have == nil {
		t.Fatalf("no %s in %+v", testName, node)
	}
	want := introspect.Method{Name: "Secret", Args: []introspect.Arg{{Name: "reference", Type: "s", Direction: "in"}, {Name: "number", Type: "x", Direction: "in"}, {Name: "answer", Type: "s", Direction: "out"}}}
	if !reflect.DeepEqual(have.Methods[6], want) || have.Properties[0].Type != "x" || have.Signals[0].Args[0] != (introspect.Arg{Name: "number", Type: "x"}) {
		t.Errorf("described as %+v", have)
	}
	for path, child := range map[dbus.ObjectPath]string{"/": "io", "/io": "kairos", "/io/kairos": "Test1"} {
		node, err := introspect.Call(conn.Object(testName, path))
		if err != nil || len(node.Children) != 1 || node.Children[0].Name != child {
			t.Errorf("%s: %+v, %v, want the child %s", path, node, err, child)
		}
	}
}

func TestPropertiesChanged(t *testing.T) {
	address := bustest.Start(t)
	c, _ := newCounter(t, address, 0)
	conn := bustest.Connect(t, address)
	o := found(t, conn)
	if err := c.object.Changed(testName); err != nil { // what there is in the beginning
		t.Fatal(err)
	}
	if err := o.Call(testName+".Add", 0, int64(0)).Err; err != nil { // answered behind that signal
		t.Fatal(err)
	}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(testPath)); err != nil {
		t.Fatal(err)
	}
	var sum int64
	if err := o.Call(testName+".Add", 0, int64(2)).Store(&sum); err != nil || sum != 2 {
		t.Fatalf("sum %d, %v", sum, err)
	}
	changed := <-signals
	want := []any{testName, map[string]dbus.Variant{"Value": dbus.MakeVariant(int64(2))}, []string{}}
	if changed.Name != propertiesInterface+".PropertiesChanged" || !reflect.DeepEqual(changed.Body, want) {
		t.Errorf("%+v, want %v: what is still even has not changed", changed, want)
	}
	if added := <-signals; added.Name != testName+".Added" || added.Body[0] != int64(2) {
		t.Errorf("%+v", added)
	}
	if err := c.object.Emit(testName, "Added", "text"); err == nil {
		t.Error("a signal of another type than announced was sent")
	}
	for _, name := range []string{testName, ""} {
		var all map[string]dbus.Variant
		err := o.Call(propertiesInterface+".GetAll", 0, name).Store(&all)
		if err == nil || !strings.Contains(err.Error(), "Broken") {
			t.Errorf("GetAll(%q) with a broken property: %v, %v", name, all, err)
		}
	}
}

func TestOneOwner(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	found(t, bustest.Connect(t, address))
	second, _ := newCounter(t, address, 0)
	if err := <-second.ran; !errors.Is(err, ErrNameTaken) || exit.Code(err) != exit.Busy {
		t.Errorf("a second service: %v", err)
	}
	second.ran <- nil
}

// A service that is told to stop ends its calls, answers them, and waits for
// what holds it.
func TestStop(t *testing.T) {
	address := bustest.Start(t)
	c, stop := newCounter(t, address, 0)
	o := found(t, bustest.Connect(t, address))
	release := c.service.Hold()
	call := o.Go(testName+".Wait", 0, make(chan *dbus.Call, 1))
	<-c.waiting
	stop()
	if err := (<-call.Done).Err; nameOf(err) != testName+".Error.Cancelled" {
		t.Errorf("the call ended with %v", err)
	}
	select {
	case err := <-c.ran:
		t.Fatalf("stopped with %v while something held it", err)
	default:
	}
	release()
	if err := <-c.ran; err != nil {
		t.Error(err)
	}
	c.ran <- nil
}

// A service leaves when it is idle, and starts again when it is needed. However
// often it leaves at the very moment of a call: the call is answered, or finds
// no service; and work that it began comes to its end.
func TestLeave(t *testing.T) {
	address := bustest.Start(t)
	conn := bustest.Connect(t, address)
	var began, answered, missed, lives int64
	// As often as a minute allows, and however slow the machine is, more than once.
	for deadline := time.Now().Add(time.Minute); lives < 2 || answered == 0 || answered < 300 && time.Now().Before(deadline); lives++ {
		c, _ := newCounter(t, address, 2*time.Millisecond)
		began = 0
		for left := false; !left; {
			switch err := conn.Object(testName, testPath).Call(testName+".Work", 0).Err; nameOf(err) {
			case "<nil>":
				began++
				answered++
			case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
				missed++
			default:
				t.Fatalf("call %d: %v", answered, err)
			}
			wait := time.NewTimer(time.Duration(answered%7) * time.Millisecond)
			select {
			case err := <-c.ran:
				if err != nil {
					t.Fatal(err)
				}
				c.ran <- nil
				left = true
			case <-wait.C: // calls meet the service at all points of its life
			}
		}
		if worked := c.worked.Load(); worked != began {
			t.Fatalf("left after %d of %d pieces of work", worked, began)
		}
	}
	t.Logf("%d lives, %d calls answered, %d found nobody", lives, answered, missed)
}

// The call that arrives when the service is about to leave keeps it.
func TestCalledAtTheLastMoment(t *testing.T) {
	address := bustest.Start(t)
	c, _ := newCounter(t, address, 0)
	conn := bustest.Connect(t, address)
	o := found(t, conn)
	call := o.Go(testName+".Wait", 0, make(chan *dbus.Call, 1))
	<-c.waiting
	// leave looked before this call came; the rest of it follows.
	if err := c.service.release(); err != nil {
		t.Fatal(err)
	}
	if left, err := c.service.stay(); left || err != nil {
		t.Fatalf("left %v, %v", left, err)
	}
	if err := conn.Object(testName, testPath).Call(testName+".Add", 0, int64(1)).Err; err != nil {
		t.Errorf("the name was not taken back: %v", err)
	}
	select {
	case <-call.Done:
		t.Error("the call was ended")
	default:
	}
}
