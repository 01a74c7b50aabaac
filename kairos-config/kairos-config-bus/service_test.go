package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-config/cmd"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// The service runs on a bus of the test's own. kairos-config is the real one
// where it needs no booted node (show, validate), and otherwise one that writes
// down how it is run and says what the test has it say. What the tests cannot
// prove: staging, applying, the sandbox, the system bus' policy and polkit,
// which TestConfigBus meets in a virtual machine.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kairos-config":     kairosConfig,
		"systemd-run":       systemdRun,
		"systemctl":         func() { note("ran", os.Args) },
		"kairos-config-bus": func() { cmdline.Main(app(testPlaces(os.Getenv("NODE")))) },
	})
}

func testPlaces(dir string) places {
	return places{filepath.Join(dir, "scratch"), filepath.Join(dir, "generations"), filepath.Join(dir, "records"), filepath.Join(dir, "upgrades")}
}

// note appends a line to a file of the node.
func note(name string, what ...any) {
	f, err := os.OpenFile(filepath.Join(os.Getenv("NODE"), name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		fmt.Fprintln(f, what...)
		err = f.Close()
	}
	if err != nil {
		panic(err)
	}
}

// kairosConfig takes its answers from the files COMMAND.out, .err and .status
// of the node, and waits for SIGTERM where a config says so.
func kairosConfig() {
	command := os.Args[1]
	switch command {
	case "show":
		os.Args = append(os.Args, "--root", os.Getenv("NODE"))
		fallthrough
	case "validate":
		cmdline.Main(cmd.App())
	case "status": // many times
	default:
		dir, _ := os.Getwd()
		note("ran", os.Args)
		for _, arg := range os.Args[2:] {
			content, err := os.ReadFile(arg)
			if err != nil {
				continue // no config
			}
			st, _ := os.Stat(arg)
			above, _ := os.Stat(dir)
			note("configs", fmt.Sprintf("%s %v %v %s", arg, st.Mode(), above.Mode(), content))
			if string(content) == "wait" {
				ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
				note("waiting", "")
				<-ctx.Done()
				stop()
				os.Exit(130)
			}
		}
	}
	answer := func(kind string) string {
		data, _ := os.ReadFile(filepath.Join(os.Getenv("NODE"), command+"."+kind))
		return string(data)
	}
	fmt.Fprint(os.Stdout, answer("out"))
	fmt.Fprint(os.Stderr, answer("err"))
	status := 0
	fmt.Sscan(answer("status"), &status)
	os.Exit(status)
}

// systemdRun runs what it is told to, in the directory that it is told.
func systemdRun() {
	note("ran", os.Args)
	for i, arg := range os.Args {
		if dir, ok := strings.CutPrefix(arg, "--working-directory="); ok {
			if err := os.Chdir(dir); err != nil {
				panic(err)
			}
		}
		if arg == "--" {
			program, err := exec.LookPath(os.Args[i+1])
			if err == nil {
				err = unix.Exec(program, os.Args[i+1:], os.Environ())
			}
			panic(err)
		}
	}
}

const transactionInterface = busName + ".Transaction"

type busNode struct {
	t       *testing.T
	dir     string
	address string
	conn    *dbus.Conn
	signals chan *dbus.Signal
	service *exec.Cmd
}

func newBusNode(t *testing.T, idle string) *busNode {
	t.Helper()
	b := &busNode{t: t, dir: t.TempDir(), address: bustest.Start(t)}
	for _, dir := range []string{"scratch", "generations", "records", "upgrades", "oem"} {
		if err := os.Mkdir(filepath.Join(b.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.say("status.out", `{"stages":[{"stage":"boot","outcome":"done","started":"2026-01-02T03:04:05Z","steps":[],"problems":[]}],`+
		`"config":{"booted":"1-000000000001","staged":"","generations":[{"id":"1-000000000001","number":1,"files":[{"name":"a.yaml"}],"state":"booted"}]}}`)
	b.say("oem/a.yaml", "#cloud-config\nhostname: node-1\nusers: [{name: alice, passwd: hunter2}]\n")
	b.conn = bustest.Connect(t, b.address)
	b.signals = make(chan *dbus.Signal, 4096)
	b.conn.Signal(b.signals)
	if err := b.conn.AddMatchSignal(dbus.WithMatchSender(busName)); err != nil {
		t.Fatal(err)
	}
	b.serve(idle)
	return b
}

// say sets what a command says, or writes another file of the node.
func (b *busNode) say(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// read returns a file of the node, and forgets it.
func (b *busNode) read(name string) string {
	b.t.Helper()
	file := filepath.Join(b.dir, name)
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	os.Remove(file)
	return string(data)
}

func (b *busNode) serve(idle string) {
	b.t.Helper()
	service := exec.Command("kairos-config-bus", "--idle", idle)
	service.Env = append(os.Environ(), "NODE="+b.dir, "DBUS_SYSTEM_BUS_ADDRESS="+b.address)
	service.Stderr = b.t.Output()
	if err := service.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { service.Process.Kill(); service.Wait() })
	if err := bustest.WaitOwner(b.t.Context(), b.conn, busName); err != nil {
		b.t.Fatal(err)
	}
	b.service = service
}

func (b *busNode) call(method string, args ...any) *dbus.Call {
	return b.conn.Object(busName, busPath).Call(busName+"."+method, 0, args...)
}

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
		iface = transactionInterface
	}
	v, err := b.conn.Object(busName, path).GetProperty(iface + "." + name)
	if err != nil {
		b.t.Fatalf("%s of %s: %v", name, path, err)
	}
	return v.Value()
}

// completed waits for the end of a transaction.
func (b *busNode) completed(path dbus.ObjectPath) (status int32, text string, result options) {
	b.t.Helper()
	for s := range b.signals {
		if s.Name == busName+".Completed" && s.Body[0] == path {
			return s.Body[1].(int32), s.Body[2].(string), s.Body[3].(options)
		}
	}
	b.t.Fatal("the bus has gone")
	return 0, "", nil
}

// changed waits until a property of the service is told to have changed.
func (b *busNode) changed(name string) any {
	b.t.Helper()
	for s := range b.signals {
		if s.Name == "org.freedesktop.DBus.Properties.PropertiesChanged" && s.Body[0] == busName {
			if v, ok := s.Body[1].(options)[name]; ok {
				return v.Value()
			}
		}
	}
	b.t.Fatal("the bus has gone")
	return nil
}

func errorName(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return strings.TrimPrefix(e.Name, busName+".Error.")
	}
	return fmt.Sprint(err)
}

type configs = map[string]string

var noOptions = options{}

func option(name string, value any) options { return options{name: dbus.MakeVariant(value)} }

// What is read: the real program answers, with secrets masked.
func TestRead(t *testing.T) {
	b := newBusNode(t, "0")
	if b.property(busPath, "Booted") != "1-000000000001" || b.property(busPath, "Staged") != "" || b.property(busPath, "Transaction") != dbus.ObjectPath("/") {
		t.Errorf("booted %q, staged %q", b.property(busPath, "Booted"), b.property(busPath, "Staged"))
	}
	if list := b.property(busPath, "Generations").([]options); len(list) != 1 || list[0]["number"].Value() != int64(1) || list[0]["state"].Value() != "booted" {
		t.Errorf("generations: %v", list)
	}
	if list := b.property(busPath, "Stages").([]options); len(list) != 1 || list[0]["stage"].Value() != "boot" {
		t.Errorf("stages: %v", list)
	}
	var config string
	if err := b.call("Show", option("origin", true)).Store(&config); err != nil || !strings.Contains(config, "hostname: node-1") ||
		!strings.Contains(config, "/oem/a.yaml:2") || strings.Contains(config, "hunter2") {
		t.Errorf("show: %v\n%s", err, config)
	}
	if err := b.call("Reveal", noOptions).Store(&config); os.Getuid() == 0 && (err != nil || !strings.Contains(config, "hunter2")) {
		t.Errorf("reveal: %v\n%s", err, config)
	}
	var valid bool
	var problems []options
	if err := b.call("Validate", configs{"a.yaml": "#cloud-config\nhostname: a\n"}).Store(&valid, &problems); err != nil || !valid || len(problems) != 0 {
		t.Errorf("validate: %v, %v, %v", err, valid, problems)
	}
	if err := b.call("Validate", configs{"b.yaml": "#cloud-config\nhostnam: a\n", "c.yaml": "x"}).Store(&valid, &problems); err != nil || valid || len(problems) != 2 ||
		problems[0]["file"].Value() != "b.yaml" || problems[0]["line"].Value() != int64(2) || problems[0]["text"].Value() != "hostnam: a" {
		t.Errorf("validate: %v, %v, %v", err, valid, problems)
	}
	b.say("diff.out", `{"values":[{"key":"hostname","before":"a","after":"b","origin":"/oem/a.yaml:2"}],"files":[]}`)
	var values, files []options
	if err := b.call("Diff", configs{}, noOptions).Store(&values, &files); err != nil || len(values) != 1 || len(files) != 0 || values[0]["after"].Value() != "b" {
		t.Errorf("diff: %v, %v, %v", err, values, files)
	}
	b.say("diff.err", "kairos-config: b.yaml:2:1: unknown key\n"+`{"message_type":"exit_error","code":1,"message":"the config is not valid","hint":"mend it"}`+"\n")
	b.say("diff.status", "1")
	err := b.call("Diff", configs{"b.yaml": ""}, noOptions).Err
	if errorName(err) != "Failed" || err.Error() != "kairos-config: the config is not valid\nb.yaml:2:1: unknown key\nhint: mend it" {
		t.Errorf("diff: %s: %v", errorName(err), err)
	}
	if left, err := os.ReadDir(filepath.Join(b.dir, "scratch")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v is left", err, left)
	}
	introspected(t, b)
}

// introspected has busctl read all that the objects say of themselves.
func introspected(t *testing.T, b *busNode) {
	out, err := exec.Command("busctl", "--address="+b.address, "--no-pager", "--full", "introspect", busName, busPath).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("busctl is not installed")
		return
	}
	for _, want := range []string{".Stage method a{ss}a{sv} o", ".Reveal method a{sv} s", ".Validate method a{ss} baa{sv}", ".Discard method - o", ".Completed signal oisa{sv}", ".Generations property aa{sv}"} {
		if err != nil || !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
			t.Errorf("introspect: %v, no %q:\n%s", err, want, out)
		}
	}
}

// What changes something: how kairos-config is run, and what is told of it.
func TestChange(t *testing.T) {
	b := newBusNode(t, "0")
	b.say("stage.out", `{"id":"2-000000000002","number":2,"created":"2026-01-02T03:04:05Z","base":"1-000000000001","files":[{"name":"a.yaml","sha256":"00","size":3}]}`)
	path := b.begin("Stage", configs{"b.yaml": "password: hunter2", "a.yaml": "x"}, option("remove", []string{"c.yaml"}))
	status, text, result := b.completed(path)
	if status != 0 || text != "" || result["id"].Value() != "2-000000000002" || result["number"].Value() != int64(2) {
		t.Errorf("staged: %d, %s, %v", status, text, result)
	}
	if ran := b.read("ran"); ran != "[kairos-config stage --json --quiet --remove c.yaml a.yaml b.yaml]\n" {
		t.Errorf("it was run as %s", ran)
	}
	if had := b.read("configs"); had != "a.yaml -rw------- drwx------ x\nb.yaml -rw------- drwx------ password: hunter2\n" {
		t.Errorf("it had the configs\n%s", had)
	}
	if left, err := os.ReadDir(filepath.Join(b.dir, "scratch")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v is left", err, left)
	}
	if b.property(path, "State") != "completed" || b.property(path, "Operation") != "stage" || b.property(busPath, "Transaction") != dbus.ObjectPath("/") {
		t.Errorf("the transaction is %v", b.property(path, "State"))
	}
	if who := b.property(path, "StartedBy").([]any); who[0] != uint32(os.Getuid()) || who[1] != uint32(os.Getpid()) {
		t.Errorf("started by %v, not by this test", who)
	}

	b.say("discard.err", `{"message_type":"exit_error","code":3,"message":"nothing to do: no config is staged"}`+"\n")
	b.say("discard.status", "3")
	path = b.begin("Discard")
	if status, text, _ := b.completed(path); status != 3 || !strings.Contains(text, "no config is staged") || b.property(path, "ExitStatus") != int32(3) {
		t.Errorf("discarded: %d, %s", status, text)
	}
	b.say("rollback.out", `{"id":""}`)
	if status, text, result := b.completed(b.begin("Rollback", "plain")); status != 0 || result["id"].Value() != "" {
		t.Errorf("rolled back: %d, %s, %v", status, text, result)
	}
	b.read("ran")
	b.say("apply.out", `{"steps":[{"stage":"boot","name":"x","file":"/oem/a.yaml","line":3}],"reboot":[],"applied":true,"record":{"stage":"apply","outcome":"failed","steps":[],"problems":[]}}`)
	b.say("apply.err", `{"message_type":"exit_error","code":1,"message":"not all steps could be applied"}`+"\n")
	b.say("apply.status", "1")
	status, text, result = b.completed(b.begin("Apply", configs{"a.yaml": "secret"}, option("now", true)))
	if record, ok := result["record"].Value().(options); status != 1 || text != "kairos-config: not all steps could be applied" || !ok || record["outcome"].Value() != "failed" {
		t.Errorf("applied: %d, %s, %v", status, text, result)
	}
	ran := b.read("ran")
	if !strings.HasPrefix(ran, "[systemd-run --quiet --wait --pipe --collect --unit=kairos-config-apply-") || !strings.HasSuffix(ran, "\n[kairos-config apply --json --quiet --now a.yaml]\n") || strings.Contains(ran, "secret") {
		t.Errorf("it was run as %s", ran)
	}
	b.completed(b.begin("Apply", configs{}, noOptions))
	if ran := b.read("ran"); ran != "[kairos-config apply --json --quiet]\n" {
		t.Errorf("it was run as %s", ran)
	}
}

func TestArguments(t *testing.T) {
	b := newBusNode(t, "0")
	large := strings.Repeat("x", 1<<20)
	many := configs{}
	for i := range maxConfigs + 1 {
		many[fmt.Sprintf("%d.yaml", i)] = ""
	}
	one := configs{"a.yaml": "x"}
	for _, test := range []struct {
		method string
		args   []any
		saying string
	}{
		{"Show", []any{option("reveal", true)}, "unknown option"},
		{"Show", []any{option("origin", "yes")}, `type "s", not "b"`},
		{"Validate", []any{configs{}}, "no configs"},
		{"Validate", []any{configs{"../a.yaml": "x"}}, "can't be the name"},
		{"Validate", []any{configs{"--reveal.yaml": "x"}}, "can't be the name"},
		{"Validate", []any{configs{"a.yaml/": "x"}}, "can't be the name"},
		{"Validate", []any{configs{large: "x"}}, "can't be that of a config"},
		{"Validate", []any{configs{"a.yaml": large + "x"}}, "larger than 1 MB"},
		{"Validate", []any{configs{"a.yaml": large, "b.yaml": large, "c.yaml": large, "d.yaml": large, "e.yaml": "x"}}, "4194305 bytes"},
		{"Validate", []any{many}, "65 configs"},
		{"Diff", []any{one, option("remove", []string{"/etc/passwd"})}, "can't be the name"},
		{"Stage", []any{configs{}, noOptions}, "no configs"},
		{"Stage", []any{one, option("remov", []string{})}, `did you mean "remove"?`},
		{"Stage", []any{one, option("now", true)}, "unknown option"},
		{"Stage", []any{"/etc/shadow", noOptions}, "do not fit"},
		{"Apply", []any{one, option("root", "/")}, "unknown option"},
		{"Rollback", []any{"../1"}, "can't be the id"},
		{"Rollback", []any{"--json"}, "can't be the id"},
	} {
		err := b.call(test.method, test.args...).Err
		if errorName(err) != "InvalidArguments" || !strings.Contains(err.Error(), test.saying) {
			t.Errorf("%s%.100v: %s: %.200v", test.method, test.args, errorName(err), err)
		}
	}
	if ran := b.read("ran"); ran != "" {
		t.Errorf("kairos-config was run: %s", ran)
	}
}

// One who may not, learns and changes nothing.
func TestAuthorization(t *testing.T) {
	b := newBusNode(t, "0")
	authority := bustest.StartAuthority(t, b.address)
	object := bustest.ConnectAs(t, b.address, 65534).Object(busName, busPath)
	for method, args := range map[string][]any{
		"Show": {noOptions}, "Reveal": {noOptions}, "Validate": {configs{"a.yaml": "x"}}, "Diff": {configs{}, noOptions}, "Stage": {configs{"a.yaml": "x"}, noOptions},
		"Discard": {}, "Rollback": {""}, "Apply": {configs{}, noOptions},
	} {
		err := object.Call(busName+"."+method, 0, args...).Err
		asked := authority.Asked()
		if errorName(err) != "org.freedesktop.DBus.Error.AccessDenied" || len(asked) != 1 || asked[0].Action != action+strings.ToLower(method) {
			t.Errorf("%s: %v; polkit was asked %v", method, err, asked)
		}
	}
	if ran := b.read("ran"); ran != "" {
		t.Errorf("kairos-config was run: %s", ran)
	}
	authority.Say(bustest.Answer{Authorized: true})
	var path dbus.ObjectPath
	if err := object.Call(busName+".Rollback", 0, "plain").Store(&path); err != nil {
		t.Fatal(err)
	}
	if asked := authority.Asked(); len(asked) != 1 || asked[0].Details["generation"] != "plain" {
		t.Errorf("polkit was asked %v", asked)
	}
	b.completed(path)
	if who := b.property(path, "StartedBy").([]any); who[0] != uint32(65534) {
		t.Errorf("started by %v", who)
	}
}

// waiting begins a transaction that does not end by itself.
func (b *busNode) waiting(method string, given options) dbus.ObjectPath {
	b.t.Helper()
	fifo := filepath.Join(b.dir, "waiting")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		b.t.Fatal(err)
	}
	path := b.begin(method, configs{"a.yaml": "wait"}, given)
	b.read("waiting") // when it runs
	return path
}

func TestCancel(t *testing.T) {
	b := newBusNode(t, "0")
	for _, test := range []struct {
		method string
		given  options
	}{{"Stage", noOptions}, {"Apply", option("now", true)}} {
		path := b.waiting(test.method, test.given)
		if b.property(busPath, "Transaction") != path || b.property(path, "State") != "running" {
			t.Errorf("the transaction is %v, %v", b.property(busPath, "Transaction"), b.property(path, "State"))
		}
		if name := errorName(b.call("Discard").Err); name != "Busy" {
			t.Errorf("another one at the same time: %s", name)
		}
		b.read("ran")
		if err := b.conn.Object(busName, path).Call(transactionInterface+".Cancel", 0).Err; err != nil {
			t.Fatal(err)
		}
		if status, text, _ := b.completed(path); status != 130 || !strings.Contains(text, "interrupted") {
			t.Errorf("cancelled: %d, %s", status, text)
		}
		if name := errorName(b.conn.Object(busName, path).Call(transactionInterface+".Cancel", 0).Err); name != "NothingToDo" {
			t.Errorf("cancelled again: %s", name)
		}
		if ran := b.read("ran"); (test.method == "Apply") != strings.HasPrefix(ran, "[systemctl stop kairos-config-apply-") {
			t.Errorf("%s: what was run: %q", test.method, ran)
		}
	}
}

// What others do is told.
func TestOthers(t *testing.T) {
	b := newBusNode(t, "0")
	staged := func(id string) string {
		return `{"stages":[],"config":{"booted":"","staged":"` + id + `","generations":[]}}`
	}
	for i, file := range []string{"generations/2-000000000002", "records/boot.json", "upgrades/COS_STATE.json"} {
		id := fmt.Sprintf("%d-000000000000", i+1)
		b.say("status.out", staged(id))
		if file == "upgrades/COS_STATE.json" {
			b.say(file, `{"id":"1","completed":false}`) // alone it would be no news
		}
		b.say(file, `{"id":"1","completed":true}`)
		for b.changed("Staged") != id {
		}
	}
}

// The service leaves when nobody needs it, not before, and a stop cancels what
// it does.
func TestLeaves(t *testing.T) {
	b := newBusNode(t, "100ms")
	if err := b.service.Wait(); err != nil {
		t.Fatalf("an idle service ended with %v", err)
	}
	b.serve("100ms")
	path := b.waiting("Stage", noOptions)
	if err := b.service.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status, text, _ := b.completed(path); status != 130 {
		t.Errorf("stopped: %d, %s", status, text)
	}
	if err := b.service.Wait(); err != nil {
		t.Errorf("a stopped service ended with %v", err)
	}
}
