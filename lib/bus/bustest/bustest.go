// Package bustest runs a private message bus for tests: a real dbus-daemon on a socket
// in a temporary directory. It tests neither the policy and activation of the system
// bus nor the real polkit; the tests in virtual machines do.
package bustest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
`

// Start starts a bus that ends with the test, and returns its address. It skips the
// test where dbus-daemon is not installed.
func Start(t testing.TB) (address string) {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed (tests/setup installs it)")
	}
	dir, err := os.MkdirTemp("", "bus") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, filepath.Join(dir, "bus")), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(program, "--config-file="+file, "--nofork", "--nopidfile", "--print-address")
	daemon.Stderr = t.Output()
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Kill()
		daemon.Wait()
	})
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon says no address: %v", err)
	}
	return strings.TrimSpace(address)
}

// Connect connects to a bus and disconnects at the end of the test.
func Connect(t testing.TB, address string) *dbus.Conn {
	t.Helper()
	return connected(t)(dbus.Connect(address))
}

// ConnectAs connects as another user. Without root it skips the test.
func ConnectAs(t testing.TB, address string, uid int) *dbus.Conn {
	t.Helper()
	var conn *dbus.Conn
	var err error
	as(t, uid, func() { conn, err = dbus.Connect(address, dbus.WithAuth(dbus.AuthExternal(strconv.Itoa(uid)))) })
	return connected(t)(conn, err)
}

func connected(t testing.TB) func(*dbus.Conn, error) *dbus.Conn {
	return func(conn *dbus.Conn, err error) *dbus.Conn {
		t.Helper()
		if err != nil {
			t.Fatalf("connect to the test's bus: %v", err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// Authority replaces polkit on a test's bus.
type Authority struct {
	mu      sync.Mutex
	answer  Answer
	asked   []Question
	delayed map[string]chan struct{}
	only    map[string]bool // the actions that are authorized; nil: the field answer decides
	waiting chan string
}

// Answer is the answer of an Authority to each question.
type Answer struct{ Authorized, Challenge bool }

// Question is a question that an Authority was asked.
type Question struct {
	Action  string
	Details map[string]string
	Flags   uint32
}

// StartAuthority exports an Authority on a bus under polkit's name.
func StartAuthority(t testing.TB, address string) *Authority {
	t.Helper()
	a := &Authority{delayed: map[string]chan struct{}{}, waiting: make(chan string, 1024)}
	conn := Connect(t, address)
	if err := conn.Export(a, "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.PolicyKit1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return a
}

// Say sets the answer to all later questions.
func (a *Authority) Say(answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// Allow authorizes these actions, and no other.
func (a *Authority) Allow(actions ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.only = map[string]bool{}
	for _, action := range actions {
		a.only[action] = true
	}
}

// Asked returns the questions since its last call.
func (a *Authority) Asked() []Question {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

// Delay delays the answers to all questions about a subject (a unique name) until
// release is called, as while a person types a password.
func (a *Authority) Delay(name string) (release func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	until := make(chan struct{})
	a.delayed[name] = until
	return sync.OnceFunc(func() { close(until) })
}

// Waiting receives the subject of each question whose answer is delayed.
func (a *Authority) Waiting() <-chan string { return a.waiting }

// Subject is the caller about whom polkit is asked.
type Subject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// CheckAuthorization is the method of org.freedesktop.PolicyKit1.Authority.
func (a *Authority) CheckAuthorization(s Subject, action string, details map[string]string, flags uint32, _ string) (struct {
	Authorized, Challenge bool
	Details               map[string]string
}, *dbus.Error) {
	name, _ := s.Details["name"].Value().(string)
	a.mu.Lock()
	delay := a.delayed[name]
	a.mu.Unlock()
	if delay != nil {
		a.waiting <- name
		<-delay
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, Question{action, details, flags})
	result := struct {
		Authorized, Challenge bool
		Details               map[string]string
	}{a.answer.Authorized, a.answer.Challenge, map[string]string{}}
	if a.only != nil {
		result.Authorized = a.only[action]
	}
	if s.Kind != "system-bus-name" || !strings.HasPrefix(name, ":") {
		return result, dbus.NewError("org.freedesktop.PolicyKit1.Error.Failed", []any{"unknown subject"})
	}
	return result, nil
}

// WaitOwner waits until a name has an owner, or the context ends.
func WaitOwner(ctx context.Context, conn *dbus.Conn, name string) error {
	changes := make(chan *dbus.Signal, 64)
	conn.Signal(changes)
	defer conn.RemoveSignal(changes)
	match := []dbus.MatchOption{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)}
	if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
		return err
	}
	defer conn.RemoveMatchSignal(match...)
	for {
		var owned bool
		if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&owned); err != nil || owned {
			return err
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
