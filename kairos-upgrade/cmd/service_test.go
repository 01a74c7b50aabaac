package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
)

// busNode is a node in a directory, whose service runs on a bus of the test's
// own. What the tests cannot prove: the system bus' policy, its activation,
// the sandbox and polkit, which TestBus meets in a virtual machine.
type busNode struct {
	node
	dir     string
	address string
	conn    *dbus.Conn
	signals chan *dbus.Signal
	service *exec.Cmd
}

func newBusNode(t *testing.T, idle string, images string) *busNode {
	t.Helper()
	dir := t.TempDir()
	b := &busNode{node: node{t, filepath.Join(dir, "store"), filepath.Join(dir, "esp")}, dir: dir, address: bustest.Start(t)}
	for _, d := range []string{b.store, b.esp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.want(0, "stage", images+":v1")
	b.bless(1)
	b.boot(1)
	b.conn = bustest.Connect(t, b.address)
	b.signals = make(chan *dbus.Signal, 4096)
	b.conn.Signal(b.signals)
	if err := b.conn.AddMatchSignal(dbus.WithMatchSender(busName)); err != nil {
		t.Fatal(err)
	}
	b.serve(idle)
	return b
}

// serve starts the service, as the bus would.
func (b *busNode) serve(idle string) {
	b.t.Helper()
	b.service = b.program("serve", "--idle", idle)
	b.service.Stderr = b.t.Output()
	if err := b.service.Start(); err != nil {
		b.t.Fatal(err)
	}
	service := b.service
	b.t.Cleanup(func() { service.Process.Kill(); service.Wait() })
	if err := bustest.WaitOwner(b.t.Context(), b.conn, busName); err != nil {
		b.t.Fatal(err)
	}
}

// program is the program on this node, without options for a store.
func (b *busNode) program(args ...string) *exec.Cmd {
	cmd := exec.Command("kairos-upgrade", args...)
	cmd.Env = append(os.Environ(), "NODE="+b.dir, "HOME="+b.dir, "DBUS_SYSTEM_BUS_ADDRESS="+b.address)
	return cmd
}

// boot makes the node believe that it runs a deployment.
func (b *busNode) boot(serial int) {
	b.t.Helper()
	names, err := filepath.Glob(filepath.Join(b.store, deployment.Dir, fmt.Sprintf("%d-*.json", serial)))
	if err != nil || len(names) != 1 {
		b.t.Fatalf("%v, %v", names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := deployment.Parse(data)
	if err != nil {
		b.t.Fatal(err)
	}
	data, err = json.Marshal(deployment.Booted{ID: r.ID, Mode: deployment.Active, Store: disk.LabelState, ImageDigest: r.ImageDigest})
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "booted.json"), data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *busNode) call(method string, args ...any) *dbus.Call {
	return b.conn.Object(busName, busPath).Call(busName+"."+method, 0, args...)
}

// begin calls a method that begins a transaction.
func (b *busNode) begin(method string, args ...any) dbus.ObjectPath {
	b.t.Helper()
	var path dbus.ObjectPath
	if err := b.call(method, args...).Store(&path); err != nil {
		b.t.Fatalf("%s%v: %v", method, args, err)
	}
	return path
}

func (b *busNode) property(path dbus.ObjectPath, name string) any {
	b.t.Helper()
	iface := busName
	if path != busPath {
		iface = busName + ".Transaction"
	}
	v, err := b.conn.Object(busName, path).GetProperty(iface + "." + name)
	if err != nil {
		b.t.Fatalf("%s of %s: %v", name, path, err)
	}
	return v.Value()
}

// completed waits for the end of a transaction, and returns its exit status,
// error and result.
func (b *busNode) completed(path dbus.ObjectPath) (status int32, text string, result map[string]dbus.Variant) {
	b.t.Helper()
	for s := range b.signals {
		if s.Name == busName+".Completed" && s.Body[0] == path {
			return s.Body[1].(int32), s.Body[2].(string), s.Body[3].(map[string]dbus.Variant)
		}
	}
	b.t.Fatal("the bus has gone")
	return 0, "", nil
}

// changed waits until a property of the service has been told to be something
// else than a value, and returns that.
func (b *busNode) changed(name string, than any) any {
	b.t.Helper()
	for s := range b.signals {
		if s.Name != "org.freedesktop.DBus.Properties.PropertiesChanged" || s.Body[0] != busName {
			continue
		}
		if v, ok := s.Body[1].(map[string]dbus.Variant)[name]; ok && v.Value() != than {
			return v.Value()
		}
	}
	b.t.Fatal("the bus has gone")
	return nil
}

// silence is a registry that accepts connections and never says a word.
func silence(t *testing.T) (reference string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String() + "/x/y:1"
}

var noOptions = map[string]dbus.Variant{}

func errorName(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return strings.TrimPrefix(e.Name, busName+".Error.")
	}
	return fmt.Sprint(err)
}

// A node's life by the bus alone.
func TestBusLife(t *testing.T) {
	images := testImages(t, 3, 1000)
	b := newBusNode(t, "0", images)
	first := b.property(busPath, "Booted").(string)
	if !strings.HasPrefix(first, "1-") || b.property(busPath, "Staged") != "" || b.property(busPath, "Transaction") != dbus.ObjectPath("/") {
		t.Errorf("booted %q, staged %q", first, b.property(busPath, "Staged"))
	}

	var plan map[string]dbus.Variant
	if err := b.call("Check", images+":v2", noOptions).Store(&plan); err != nil || plan["layers"].Value() != int64(2) {
		t.Errorf("check: %v, %v", plan, err)
	}
	path := b.begin("Stage", images+":v2", noOptions)
	status, text, result := b.completed(path)
	second, _ := result["id"].Value().(string)
	if status != 0 || text != "" || !strings.HasPrefix(second, "2-") {
		t.Fatalf("staged: %d, %s, %v", status, text, result)
	}
	// Whoever hears of the end finds the state that it led to.
	if b.property(busPath, "Staged") != second || b.property(busPath, "Transaction") != dbus.ObjectPath("/") {
		t.Errorf("after that, staged is %v", b.property(busPath, "Staged"))
	}
	if b.property(path, "State") != "completed" || b.property(path, "Operation") != "stage" || b.property(path, "Reference") != images+":v2" || b.property(path, "BytesDone").(uint64) == 0 {
		t.Errorf("the transaction: %v", b.property(path, "BytesDone"))
	}
	if who := b.property(path, "StartedBy").([]any); who[0] != uint32(os.Getuid()) || who[1] != uint32(os.Getpid()) {
		t.Errorf("started by %v, not by this test", who)
	}
	list := b.property(busPath, "Deployments").([]map[string]dbus.Variant)
	if len(list) != 2 || list[0]["id"].Value() != second || list[0]["tries_left"].Value() != int64(3) || list[1]["booted"].Value() != true {
		t.Errorf("deployments: %v", list)
	}

	status, text, _ = b.completed(b.begin("Stage", images+":v2", noOptions))
	if status != 3 || !strings.Contains(text, "boots next") || !strings.Contains(text, "\nhint: ") {
		t.Errorf("staged again: %d, %s", status, text)
	}
	if err := b.call("Pin", first).Err; err != nil {
		t.Errorf("pin: %v", err)
	}
	if list := b.property(busPath, "Deployments").([]map[string]dbus.Variant); list[1]["pinned"].Value() != true {
		t.Errorf("not pinned: %v", list)
	}
	if name := errorName(b.call("Pin", first).Err); name != "NothingToDo" {
		t.Errorf("pinned again: %s", name)
	}
	if err := b.call("Unpin", "1").Err; err != nil {
		t.Errorf("unpin: %v", err)
	}
	status, text, result = b.completed(b.begin("Rollback", "", noOptions))
	if status != 0 || result["from"].Value() != first {
		t.Errorf("rolled back: %d, %s, %v", status, text, result)
	}
	if status, text, result = b.completed(b.begin("CollectGarbage", noOptions)); status != 0 {
		t.Errorf("collected: %d, %s, %v", status, text, result)
	}
	status, text, result = b.completed(b.begin("Verify", "", noOptions))
	if damaged, ok := result["damaged"].Value().([]map[string]dbus.Variant); status != 0 || !ok || len(damaged) != 0 {
		t.Errorf("verified: %d, %s, %v", status, text, result)
	}

	// What others do is told, too.
	if out, err := b.program("quarantine", "add", "--reason", "broken", "sha256:"+strings.Repeat("ab", 32)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if q := b.changed("Quarantined", nil).([]map[string]dbus.Variant); len(q) != 1 || q[0]["reason"].Value() != "broken" {
		t.Errorf("quarantined: %v", q)
	}
}

func TestBusArguments(t *testing.T) {
	images := testImages(t, 1, 100)
	b := newBusNode(t, "0", images)
	before := files(t, b.store, b.esp)
	option := func(name string, value any) map[string]dbus.Variant {
		return map[string]dbus.Variant{name: dbus.MakeVariant(value)}
	}
	for _, test := range []struct {
		method string
		args   []any
		saying string
	}{
		{"Stage", []any{"", noOptions}, "reference is empty"},
		{"Stage", []any{"quay.io/x/y:1\x1b[2J", noOptions}, "cannot be printed"},
		{"Stage", []any{"quay.io/" + strings.Repeat("x", 1100), noOptions}, "1108 bytes"},
		{"Stage", []any{images + ":v1", option("forse", true)}, `did you mean "force"?`},
		{"Stage", []any{images + ":v1", option("force", "yes")}, `type "s", not "b"`},
		{"Check", []any{images + ":v1", option("recovery", true)}, "unknown option"},
		{"Rollback", []any{"../1", noOptions}, "not of the form"},
		{"Pin", []any{""}, "id is empty"},
		{"Unpin", []any{strings.Repeat("1", 65)}, "not of the form"},
		{"Verify", []any{"x", noOptions}, "not of the form"},
		{"CollectGarbage", []any{option("dry-run", true)}, "takes no options"},
	} {
		err := b.call(test.method, test.args...).Err
		if errorName(err) != "InvalidArguments" || !strings.Contains(err.Error(), test.saying) {
			t.Errorf("%s%.100v: %s: %v", test.method, test.args, errorName(err), err)
		}
	}
	if now := files(t, b.store, b.esp); now != before {
		t.Errorf("something was written:\n%s", now)
	}
}

// One who may not, changes nothing; with a permission it is done to the end,
// also when the caller has gone.
func TestBusAuthorization(t *testing.T) {
	images := testImages(t, 3, 1000)
	b := newBusNode(t, "0", images)
	authority := bustest.StartAuthority(t, b.address)
	user := bustest.ConnectAs(t, b.address, 65534)
	before := files(t, b.store, b.esp)
	object := user.Object(busName, busPath)
	for method, args := range map[string][]any{
		"Stage": {images + ":v2", noOptions}, "Check": {images + ":v2", noOptions}, "Rollback": {"", noOptions},
		"Pin": {"1"}, "Unpin": {"1"}, "CollectGarbage": {noOptions}, "Verify": {"", noOptions},
	} {
		err := object.Call(busName+"."+method, 0, args...).Err
		asked := authority.Asked()
		if errorName(err) != "org.freedesktop.DBus.Error.AccessDenied" || len(asked) != 1 || !strings.HasPrefix(asked[0].Action, "io.kairos.upgrade1.") {
			t.Errorf("%s: %v; polkit was asked %v", method, err, asked)
		}
	}
	if now := files(t, b.store, b.esp); now != before {
		t.Errorf("something was written:\n%s", now)
	}
	authority.Say(bustest.Answer{Authorized: true})
	var path dbus.ObjectPath
	if err := object.Call(busName+".Stage", 0, images+":v2", noOptions).Store(&path); err != nil {
		t.Fatal(err)
	}
	user.Close()
	if status, text, _ := b.completed(path); status != 0 {
		t.Errorf("staged: %d, %s", status, text)
	}
	if who := b.property(path, "StartedBy").([]any); who[0] != uint32(65534) {
		t.Errorf("started by %v", who)
	}
}

// A transaction of the service is cancelled on the bus; meanwhile others are
// refused, and the command line shows it.
func TestBusCancel(t *testing.T) {
	images, reference := testImages(t, 1, 100), silence(t)
	b := newBusNode(t, "0", images)
	path := b.begin("Stage", reference, noOptions)
	if have := b.changed("Transaction", dbus.ObjectPath("/")); have != path {
		t.Errorf("the transaction is %v, not %s", have, path)
	}
	if name := errorName(b.call("CollectGarbage", noOptions).Err); name != "Busy" {
		t.Errorf("another one at the same time: %s", name)
	}
	if name := errorName(b.call("Pin", "1").Err); name != "Busy" {
		t.Errorf("a pin at the same time: %s", name)
	}
	b.want(6, "gc")
	if out := b.want(0, "status"); !strings.Contains(out, "in progress: stage "+reference) {
		t.Errorf("status says:\n%s", out)
	}
	watch := b.program("watch", "--json")
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(out)
	var state transaction.State
	if err := lines.Decode(&state); err != nil || state.Reference != reference || state.Completed {
		t.Fatalf("watch says %+v, %v", state, err)
	}
	if err := b.conn.Object(busName, path).Call(busName+".Transaction.Cancel", 0).Err; err != nil {
		t.Fatal(err)
	}
	if status, text, _ := b.completed(path); status != 130 || !strings.Contains(text, "interrupted") {
		t.Errorf("cancelled: %d, %s", status, text)
	}
	for !state.Completed {
		if err := lines.Decode(&state); err != nil {
			t.Fatal(err)
		}
	}
	var exit *exec.ExitError
	if err := watch.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 || state.Status != 130 {
		t.Errorf("watch ended with %v, after %+v", err, state)
	}
	if name := errorName(b.conn.Object(busName, path).Call(busName+".Transaction.Cancel", 0).Err); name != "NothingToDo" {
		t.Errorf("cancelled again: %s", name)
	}
	b.want(0, "gc")
	if code, out := b.run("watch"); code != 3 {
		t.Errorf("watch with nothing to watch: %d, %s", code, out)
	}
}

// A transaction of the command line is seen on the bus, and can be cancelled
// there.
func TestBusShowsOthers(t *testing.T) {
	images, reference := testImages(t, 1, 100), silence(t)
	b := newBusNode(t, "0", images)
	staging := b.command("stage", reference)
	staging.Env = append(staging.Env, "NODE="+b.dir)
	if err := staging.Start(); err != nil {
		t.Fatal(err)
	}
	path := b.changed("Transaction", dbus.ObjectPath("/")).(dbus.ObjectPath)
	if b.property(path, "Reference") != reference || b.property(path, "ProcessID") != uint32(staging.Process.Pid) || b.property(path, "State") != "running" {
		t.Errorf("shown as %v of %v", b.property(path, "Reference"), b.property(path, "ProcessID"))
	}
	if name := errorName(b.call("Pin", "1").Err); name != "Busy" {
		t.Errorf("a pin at the same time: %s", name)
	}
	if err := b.conn.Object(busName, path).Call(busName+".Transaction.Cancel", 0).Err; err != nil {
		t.Fatal(err)
	}
	if status, text, _ := b.completed(path); status != 130 || !strings.Contains(text, "interrupted") {
		t.Errorf("completed: %d, %s", status, text)
	}
	var exit *exec.ExitError
	if err := staging.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("the staging ended with %v", err)
	}

	// One that is killed has an end, too.
	staging = b.command("stage", reference)
	staging.Env = append(staging.Env, "NODE="+b.dir)
	if err := staging.Start(); err != nil {
		t.Fatal(err)
	}
	path = b.changed("Transaction", dbus.ObjectPath("/")).(dbus.ObjectPath)
	staging.Process.Kill()
	staging.Wait()
	if status, text, _ := b.completed(path); status != 1 || !strings.Contains(text, "killed") {
		t.Errorf("completed: %d, %s", status, text)
	}
	if out := b.want(0, "status"); strings.Contains(out, "in progress") {
		t.Errorf("status says:\n%s", out)
	}
}

// The service leaves when nobody needs it, not before, and a stop cancels what
// it does.
func TestBusLeaves(t *testing.T) {
	images, reference := testImages(t, 1, 100), silence(t)
	b := newBusNode(t, "100ms", images)
	if err := b.service.Wait(); err != nil {
		t.Fatalf("an idle service ended with %v", err)
	}
	b.serve("100ms")
	path := b.begin("Stage", reference, noOptions)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- b.service.Wait(); cancel() }()
	if err := b.service.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status, text, _ := b.completed(path); status != 130 {
		t.Errorf("stopped: %d, %s", status, text)
	}
	<-ctx.Done()
	if err := <-ended; err != nil {
		t.Errorf("a stopped service ended with %v", err)
	}
}
