package pid1

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// systemd is a stand-in for PID 1's end of the private socket: the handshake,
// its reading habits, and canned answers. The real one is met in the virtual
// machine tests.
type systemd struct {
	t       *testing.T
	lazy    bool // does not look at the first message until there is another
	answers map[string][]any
	calls   chan string
}

func header(m *dbus.Message, f dbus.HeaderField) any { return m.Headers[f].Value() }

func (s *systemd) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if _, err := in.ReadByte(); err != nil { // NUL
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "BEGIN") {
			break
		}
		switch {
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			fmt.Fprint(conn, "OK 0123456789abcdef0123456789abcdef\r\n")
		case strings.HasPrefix(line, "NEGOTIATE"):
			fmt.Fprint(conn, "AGREE_UNIX_FD\r\n")
		default: // godbus first asks which mechanisms there are
			fmt.Fprint(conn, "REJECTED EXTERNAL\r\n")
		}
	}
	if s.lazy {
		first, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		if _, err := in.Peek(1); err != nil { // until something else arrives
			return
		}
		s.answer(conn, first)
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		s.answer(conn, m)
	}
}

func (s *systemd) answer(conn net.Conn, m *dbus.Message) {
	member := header(m, dbus.FieldMember).(string)
	call := fmt.Sprint(append([]any{member}, m.Body...)...)
	if member == "Get" {
		call = fmt.Sprint(header(m, dbus.FieldPath), " ", m.Body[1])
	}
	if member == "GetAll" {
		call = fmt.Sprint(header(m, dbus.FieldPath), " ", strings.TrimPrefix(m.Body[0].(string), service+"."))
	}
	reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()),
	}}
	body, known := s.answers[call]
	switch {
	case member == "Ping":
	case !known:
		reply.Type = dbus.TypeError
		name := "UnknownMethod"
		if member == "Get" {
			name = "UnknownProperty"
		}
		reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.DBus.Error." + name)
		reply.Body = []any{"no answer to " + call}
	default:
		reply.Body = body
	}
	if member != "Ping" {
		s.calls <- call
	}
	if call == "ListJobs" { // something changes meanwhile
		s.send(conn, &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath(object)),
			dbus.FieldInterface: dbus.MakeVariant(managerIf),
			dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
		}})
	}
	if len(reply.Body) > 0 {
		reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
	}
	s.send(conn, reply)
}

func (s *systemd) send(conn net.Conn, m *dbus.Message) {
	if err := m.EncodeTo(conn, binary.LittleEndian); err != nil {
		s.t.Error(err)
	}
}

// dialFake connects to a fake.
func dialFake(t *testing.T, s *systemd) *Conn {
	t.Helper()
	s.t, s.calls = t, make(chan string, 64)
	socket := filepath.Join(t.TempDir(), "private")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := listener.Accept(); err == nil {
			s.serve(conn)
		}
	}()
	c, err := dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-done })
	return c
}

type unitRow struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

type jobRow struct {
	ID                uint32
	Unit, Type, State string
	JobPath, UnitPath dbus.ObjectPath
}

func TestQuestions(t *testing.T) {
	ssh := unitRow{"ssh.service", "SSH", "loaded", "failed", "failed", "", "/u/ssh", 0, "", "/"}
	c := dialFake(t, &systemd{answers: map[string][]any{
		"ListUnitsFiltered[failed]": {[]unitRow{ssh}},
		"ListUnitsFiltered[]":       {[]unitRow{}},
		"ListJobs":                  {[]jobRow{{7, "a.service", "start", "running", "/j/7", "/u/a"}}},
		"/u/ssh NRestarts":          {dbus.MakeVariant(uint32(3))},
		"/u/ssh Result":             {dbus.MakeVariant("exit-code")},
		"/u/ssh Unit": {map[string]dbus.Variant{
			"TriggeredBy": dbus.MakeVariant([]string{"ssh.socket", "ssh.timer"}), "WantedBy": dbus.MakeVariant([]string{}),
			"UpheldBy": dbus.MakeVariant([]string{"a.target"}), "Transient": dbus.MakeVariant(true),
		}},
		"/u/ssh Service":         {map[string]dbus.Variant{"Slice": dbus.MakeVariant("system.slice"), "BusName": dbus.MakeVariant("org.example.SSH")}},
		"GetUnitlocal-fs.target": {dbus.ObjectPath("/u/lfs")},
		"/u/lfs Requires":        {dbus.MakeVariant([]string{"srv.mount"})},
	}})
	ctx := t.Context()

	units, err := c.Units(ctx, "failed")
	want := []Unit{{Name: "ssh.service", Description: "SSH", Load: "loaded", Active: "failed", Sub: "failed", path: "/u/ssh"}}
	if err != nil || !reflect.DeepEqual(units, want) {
		t.Fatalf("units: %+v, %v", units, err)
	}
	if all, err := c.Units(ctx); err != nil || len(all) != 0 {
		t.Errorf("all units: %v, %v", all, err)
	}
	jobs, err := c.Jobs(ctx)
	if err != nil || !reflect.DeepEqual(jobs, []Job{{7, "a.service", "start", "running"}}) || jobs[0].String() != "a.service/start" {
		t.Errorf("jobs: %v, %v", jobs, err)
	}
	if n, err := c.Restarts(ctx, units[0]); n != 3 || err != nil {
		t.Errorf("restarts: %d, %v", n, err)
	}
	if r := c.Result(ctx, units[0]); r != "exit-code" {
		t.Errorf("result: %q", r)
	}
	origin := Origin{PulledIn: true, Transient: true, Slice: "system.slice", BusName: "org.example.SSH", Sockets: []string{"ssh.socket"}}
	if o, err := c.Origin(ctx, units[0]); err != nil || !reflect.DeepEqual(o, origin) {
		t.Errorf("origin: %+v, %v, want %+v", o, err, origin)
	}
	if r, err := c.Requires(ctx, "local-fs.target"); err != nil || fmt.Sprint(r) != "[srv.mount]" {
		t.Errorf("requires: %v, %v", r, err)
	}
	if _, err := c.Requires(ctx, "nowhere.target"); err == nil || !strings.Contains(err.Error(), "find nowhere.target: no answer to") {
		t.Errorf("requires of an unknown unit: %v", err)
	}
}

func TestSoftReboots(t *testing.T) {
	const question = object + " SoftRebootsCount"
	c := dialFake(t, &systemd{answers: map[string][]any{question: {dbus.MakeVariant(uint32(2))}}})
	if n, err := c.SoftReboots(t.Context()); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := dialFake(t, &systemd{}).SoftReboots(t.Context()); n != 0 || err != nil {
		t.Errorf("of an older systemd: %d, %v", n, err)
	}
	c = dialFake(t, &systemd{answers: map[string][]any{question: {dbus.MakeVariant("two")}}})
	if _, err := c.SoftReboots(t.Context()); err == nil {
		t.Error("text is no number")
	}
}

func TestReboot(t *testing.T) {
	order := "StartUnitreboot.targetreplace-irreversibly"
	for name, test := range map[string]struct {
		answers map[string][]any
		calls   []string
		fails   bool
	}{
		"in order":        {map[string][]any{order: {dbus.ObjectPath("/j/1")}}, []string{order}, false},
		"refused: forced": {map[string][]any{"Reboot": nil}, []string{order, "Reboot"}, false},
		"both refused":    {nil, []string{order, "Reboot"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &systemd{answers: test.answers}
			err := dialFake(t, fake).Reboot(t.Context())
			if (err != nil) != test.fails {
				t.Errorf("error: %v", err)
			}
			for _, want := range test.calls {
				if got := <-fake.calls; got != want {
					t.Errorf("called %q, want %q", got, want)
				}
			}
		})
	}
}

// TestFirstMessageAndSignals: systemd looks at what came together with the end
// of the handshake only when more comes.
func TestFirstMessageAndSignals(t *testing.T) {
	c := dialFake(t, &systemd{lazy: true, answers: map[string][]any{"ListJobs": {[]jobRow{}}}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Jobs(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Changed():
	case <-ctx.Done():
		t.Error("the signal is lost")
	}
}

func TestSystemdThatNeverAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "private")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx, socket); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
	if _, err := dial(t.Context(), socket+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error without a socket: %v", err)
	}
}
