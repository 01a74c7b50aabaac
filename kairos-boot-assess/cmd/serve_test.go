package cmd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/service"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
)

// busNode is a machine of files, as in the scripts, whose service runs on a bus
// of the test's own. What the tests cannot prove: the system bus' policy, its
// activation, the sandbox and polkit, which TestAssessBus meets in a virtual
// machine.
type busNode struct {
	t       testing.TB
	dir     string
	address string
	conn    *dbus.Conn
	signals chan *dbus.Signal
}

const (
	older = "2-222222222222"
	newer = "3-333333333333"
)

func newBusNode(t testing.TB) *busNode {
	t.Helper()
	b := &busNode{t: t, dir: t.TempDir(), address: bustest.Start(t)}
	for _, id := range []string{older, newer} {
		b.write("run/kairos/store/deployments/"+id+".json", fmt.Sprintf(
			`{"format": 1, "id": %q, "serial": %s, "version": "v%[2]s", "image_digest": "sha256:%[3]s", "manifest_digest": "sha256:%[3]s", "created": "2026-01-01T00:00:00Z"}`,
			id, id[:1], strings.Repeat(id[:1], 64)))
		b.write("efi/loader/entries/kairos-"+id+".conf", "sort-key kairos\nversion "+id[:1]+"\nlinux /kairos/linux\n")
	}
	b.write("efi/kairos/linux", "kernel")
	b.write("systemd/empty", "")
	b.conn = bustest.Connect(t, b.address)
	b.signals = make(chan *dbus.Signal, 4096)
	b.conn.Signal(b.signals)
	// By its name, as people listen: what is said before it has it is lost.
	if err := b.conn.AddMatchSignal(dbus.WithMatchSender(service.Name)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *busNode) write(file, text string) {
	b.t.Helper()
	file = filepath.Join(b.dir, "node", file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *busNode) script(file, text string) {
	b.t.Helper()
	b.write(file, text)
	if err := os.Chmod(filepath.Join(b.dir, "node", file), 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// program is a program on this node.
func (b *busNode) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+b.address)
	return cmd
}

func (b *busNode) run(name string, args ...string) {
	b.t.Helper()
	if out, err := b.program(name, args...).CombinedOutput(); err != nil {
		b.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// serve starts the service, as the bus would. stop ends it.
func (b *busNode) serve(idle string) (cmd *exec.Cmd) {
	b.t.Helper()
	cmd = b.program("kairos-boot-assess", "serve", "--idle", idle)
	cmd.Stderr = b.t.Output()
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if err := bustest.WaitOwner(b.t.Context(), b.conn, service.Name); err != nil {
		b.t.Fatal(err)
	}
	return cmd
}

func (b *busNode) call(method string, args ...any) *dbus.Call {
	return b.conn.Object(service.Name, service.Path).Call(service.Name+"."+method, 0, args...)
}

func (b *busNode) property(name string) any {
	b.t.Helper()
	v, err := b.conn.Object(service.Name, service.Path).GetProperty(service.Name + "." + name)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.Value()
}

// next returns what the next signal of a name says. Signals of others that
// come before it are in passed.
func (b *busNode) next(name string) (body []any, passed []string) {
	b.t.Helper()
	for {
		var s *dbus.Signal
		select {
		case s = <-b.signals:
		case <-b.t.Context().Done():
		case <-time.After(time.Minute):
		}
		if s == nil {
			b.t.Fatalf("no signal %s, only %q", name, passed)
		}
		member := s.Name[strings.LastIndex(s.Name, ".")+1:]
		if member == name {
			return s.Body, passed
		}
		passed = append(passed, member)
	}
}

func errorName(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return strings.TrimPrefix(e.Name, service.Name+".Error.")
	}
	return fmt.Sprint(err)
}

// A person's decisions by the bus alone, and what others do.
func TestBusMarks(t *testing.T) {
	b := newBusNode(t)
	b.run("boot", "1", newer, "+2-1", "active")
	b.run("kairos-boot-assess", "record")
	b.serve("0")
	if b.property("Verdict") != "pending" || b.property("Booted") != newer || b.property("TriesLeft") != uint32(2) || b.property("Counted") != true ||
		b.property("EntryState") != "pending" {
		t.Errorf("%v, %v", b.property("Verdict"), b.property("Boot"))
	}
	b.run("kairos-boot-assess", "check")
	said, _ := b.next("Assessed")
	if said[0] != "good" || said[1] != "" || said[2].(map[string]dbus.Variant)["deployment"].Value() != newer {
		t.Errorf("assessed: %v", said)
	}
	if b.property("Verdict") != "good" || b.property("Reason") != "" {
		t.Errorf("verdict %v", b.property("Verdict"))
	}
	if err := b.call("MarkGood").Err; err != nil || b.property("EntryState") != "good" {
		t.Errorf("%v, entry is %v", err, b.property("EntryState"))
	}
	if err := b.call("Rearm", uint32(0)).Err; err != nil || b.property("EntryState") != "pending" {
		t.Errorf("%v, entry is %v", err, b.property("EntryState"))
	}
	b.call("MarkGood")
	var next string
	if err := b.call("MarkBad", "hangs under load").Store(&next); err != nil || next != "kairos-"+older {
		t.Errorf("next %q, %v", next, err)
	}
	// Who called learns of it when everybody can see it.
	if b.property("Verdict") != "bad" || b.property("Reason") != "marked bad: hangs under load" || b.property("EntryState") != "bad" {
		t.Errorf("verdict %v, entry %v", b.property("Verdict"), b.property("EntryState"))
	}
	for {
		if said, _ := b.next("Assessed"); said[0] == "bad" {
			break
		}
	}
	for _, test := range []struct {
		method, name string
		args         []any
	}{
		{"MarkBad", "InvalidArguments", []any{"two\nlines"}},
		{"MarkBad", "InvalidArguments", []any{strings.Repeat("x", 1025)}},
		{"Rearm", "InvalidArguments", []any{uint32(10)}},
		{"Rearm", "InvalidArguments", []any{uint32(1) << 31}},
		{"MarkGood", "InvalidArguments", []any{true}},
	} {
		if err := b.call(test.method, test.args...).Err; errorName(err) != test.name {
			t.Errorf("%s%v: %v", test.method, test.args, err)
		}
	}
	b.run("boot", "2", older, "-", "recovery")
	if err := b.call("MarkGood").Err; errorName(err) != "Refused" {
		t.Errorf("in recovery: %v", err)
	}
	os.Remove(filepath.Join(b.dir, "node/run/kairos/booted.json"))
	if err := b.call("MarkGood").Err; errorName(err) != "Failed" {
		t.Errorf("not booted: %v", err)
	}
}

// A fallback that was found before there was a service is signalled by the
// first one, not by those after it; it says nothing of the journal to everybody.
func TestBusFallback(t *testing.T) {
	b := newBusNode(t)
	b.run("boot", "3", newer, "+0-1", "active")
	b.run("kairos-boot-assess", "bad", "no good")
	b.run("boot", "4", older, "-", "passive")
	b.run("kairos-boot-assess", "record")
	b.run("kairos-boot-assess", "check")
	first := b.serve("50ms")
	said, _ := b.next("FellBack")
	told := said[0].(map[string]dbus.Variant)
	if told["from"].Value() != newer || told["reason"].Value() != "marked bad: no good" || told["failed_boot_id"].Value() != bootID("3") {
		t.Errorf("fell back: %v", told)
	}
	if _, has := told["failed_boot"]; has {
		t.Errorf("with the journal: %v", told)
	}
	b.next("Assessed")
	if err := first.Wait(); err != nil { // nobody needs it
		t.Error(err)
	}
	b.serve("0")
	var boots, fallbacks []map[string]dbus.Variant
	if err := b.call("ListHistory", uint32(0)).Store(&boots, &fallbacks); err != nil || len(boots) != 2 || len(fallbacks) != 1 || boots[0]["boot_id"].Value() != bootID("4") {
		t.Errorf("history: %v, %v, %v", boots, fallbacks, err)
	}
	f := fallbacks[0]["fallback"].Value().(map[string]dbus.Variant)["failed_boot"].Value().(map[string]dbus.Variant)
	if lines, _ := f["journal"].Value().([]string); len(lines) != 2 {
		t.Errorf("journal: %v", f)
	}
	if err := b.call("ListHistory", uint32(1)).Store(&boots, &fallbacks); err != nil || len(boots) != 1 {
		t.Errorf("history: %v, %v", boots, err)
	}
	if last := b.property("LastFallback").(map[string]dbus.Variant); last["to"].Value() != older || last["boot_id"].Value() != bootID("4") {
		t.Errorf("last fallback: %v", last)
	}
	// Something to wait for, behind which nothing old was said again.
	b.call("Repair")
	if _, passed := b.next("Completed"); strings.Contains(strings.Join(passed, " "), "FellBack") || strings.Contains(strings.Join(passed, " "), "Assessed") {
		t.Errorf("again: %q", passed)
	}
}

func TestBusRepair(t *testing.T) {
	b := newBusNode(t)
	b.run("boot", "1", older, "-", "active")
	b.write("efi/loader/entries/kairos-"+older+".conf", "sort-key kairos\nversion 2\nlinux /kairos/linux\n")
	b.serve("0")
	twin := "efi/loader/entries/kairos-" + newer + "+0-3.conf"
	b.write(twin, "sort-key kairos\nversion 3\nlinux /kairos/linux\n")
	var fallback string
	var problems []map[string]dbus.Variant
	if err := b.call("PlanRepair").Store(&fallback, &problems); err != nil || fallback != "kairos-"+newer+".conf" || len(problems) != 1 || problems[0]["done"].Value() != false {
		t.Errorf("plan: %q, %v, %v", fallback, problems, err)
	}
	var path dbus.ObjectPath
	if err := b.call("Repair").Store(&path); err != nil {
		t.Error(err)
	}
	b.next("Completed") // of the transaction's own object
	said, _ := b.next("Completed")
	if said[0] != path {
		t.Errorf("%v has ended, not %s", said[0], path)
	}
	if done := said[3].(map[string]dbus.Variant)["problems"].Value().([]map[string]dbus.Variant); said[1] != int32(0) || said[2] != "" || len(done) != 1 || done[0]["done"].Value() != true {
		t.Errorf("repaired: %v", said)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "node", twin)); err == nil {
		t.Error("it is still there")
	}
}

// One who may not, changes nothing; what everybody may read has no lines of
// the journal.
func TestBusAuthorization(t *testing.T) {
	b := newBusNode(t)
	b.run("boot", "1", newer, "-", "active")
	b.serve("0")
	authority := bustest.StartAuthority(t, b.address)
	user := bustest.ConnectAs(t, b.address, 65534).Object(service.Name, service.Path)
	for method, args := range map[string][]any{
		"MarkGood": nil, "MarkBad": {"no"}, "Rearm": {uint32(3)}, "Repair": nil, "PlanRepair": nil, "ListHistory": {uint32(0)},
	} {
		if err := user.Call(service.Name+"."+method, 0, args...).Err; errorName(err) != "org.freedesktop.DBus.Error.AccessDenied" {
			t.Errorf("%s: %v", method, err)
		}
		policy, err := os.ReadFile("../../units/polkit/io.kairos.BootAssess1.policy")
		if err != nil {
			t.Fatal(err)
		}
		if asked := authority.Asked(); len(asked) != 1 || !strings.Contains(string(policy), `<action id="`+asked[0].Action+`">`) {
			t.Errorf("%s: polkit was asked %v", method, asked)
		}
	}
	if v, err := user.GetProperty(service.Name + ".Verdict"); err != nil || v.Value() != "pending" {
		t.Errorf("%v, %v", v, err)
	}
	authority.Say(bustest.Answer{Authorized: true})
	if err := user.Call(service.Name+".MarkBad", 0, "by rule").Err; err != nil {
		t.Error(err)
	}
	if asked := authority.Asked(); len(asked) != 1 || asked[0].Details["reason"] != "by rule" {
		t.Errorf("polkit was asked %v", asked)
	}
}
