package checks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
)

// fakeManager is a systemd whose units change at given times.
type fakeManager struct {
	begin   time.Time
	units   func(at time.Duration) []fakeUnit
	changed chan struct{}
	err     error
}

type fakeUnit struct {
	name, active, sub string
	restarts          int
}

func (m *fakeManager) now() []fakeUnit { return m.units(time.Since(m.begin)) }

func (m *fakeManager) Units(_ context.Context, states ...string) ([]pid1.Unit, error) {
	var list []pid1.Unit
	for _, u := range m.now() {
		match := len(states) == 0
		for _, s := range states {
			match = match || s == u.active || s == u.sub
		}
		if match {
			list = append(list, pid1.Unit{Name: u.name, Active: u.active, Sub: u.sub})
		}
	}
	return list, m.err
}

func (m *fakeManager) Restarts(_ context.Context, u pid1.Unit) (int, error) {
	for _, f := range m.now() {
		if f.name == u.Name {
			return f.restarts, nil
		}
	}
	return 0, errors.New("no such unit")
}

// origins are those of units whose names begin so; others are part of the boot.
var origins = map[string]pid1.Origin{
	"bus-":       {BusName: "org.example.Called", Slice: "system.slice"},
	"wanted-":    {BusName: "org.example.Called", Slice: "system.slice", PulledIn: true},
	"accepted@":  {Sockets: []string{"accepted.socket"}, Slice: "system-accepted.slice"},
	"user-unit":  {PulledIn: true, Slice: "user-1000.slice"},
	"all-users":  {PulledIn: true, Slice: "user.slice"},
	"run-":       {Transient: true, Slice: "system.slice"},
	"started-by": {Slice: "system.slice"}, // by a timer, or by hand
}

func (m *fakeManager) Origin(_ context.Context, u pid1.Unit) (pid1.Origin, error) {
	for prefix, o := range origins {
		if strings.HasPrefix(u.Name, prefix) {
			return o, nil
		}
	}
	if strings.HasPrefix(u.Name, "gone") {
		return pid1.Origin{}, errors.New("no such unit")
	}
	return pid1.Origin{PulledIn: true, Slice: "system.slice"}, nil
}

// Result is the name of a unit before its first dot.
func (m *fakeManager) Result(_ context.Context, u pid1.Unit) string {
	result, _, _ := strings.Cut(u.Name, ".")
	return result
}

// Up is a day for a unit called "old", and no time for all others.
func (m *fakeManager) Up(_ context.Context, u pid1.Unit) (time.Duration, error) {
	if strings.HasPrefix(u.Name, "old") {
		return 24 * time.Hour, nil
	}
	return 0, nil
}

func (m *fakeManager) Changed() <-chan struct{} { return m.changed }

// judge runs the check in a bubble of fake time and returns its result and how
// long it took. The manager signals a change each second.
func judge(t *testing.T, timeout time.Duration, units func(time.Duration) []fakeUnit) (r Result, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &fakeManager{begin: time.Now(), units: units, changed: make(chan struct{}, 1)}
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			for tick := time.NewTicker(time.Second); ; {
				select {
				case <-tick.C:
					select {
					case m.changed <- struct{}{}:
					default:
					}
				case <-ctx.Done():
					return
				}
			}
		}()
		dial := func(context.Context) (ServiceManager, func(), error) { return m, func() {}, nil }
		c := Check{Name: FailedUnitsName, Required: true, Timeout: timeout, Do: FailedUnits(dial, IgnoredUnits)}
		var err error
		r, err = Run(t.Context(), c, func(string) {})
		if err != nil {
			t.Error(err)
		}
		took = time.Since(m.begin)
		stop()
		synctest.Wait()
	})
	return r, took
}

func always(units ...fakeUnit) func(time.Duration) []fakeUnit {
	return func(time.Duration) []fakeUnit { return units }
}

func TestFailedUnits(t *testing.T) {
	ssh := fakeUnit{"ssh.service", "active", "running", 0}
	for name, test := range map[string]struct {
		units func(time.Duration) []fakeUnit
		state State
		says  string // part of what the result says
		took  time.Duration
	}{
		"all well": {always(ssh), Passed, "", 0},
		"failed": {
			always(ssh, fakeUnit{"b.service", "failed", "failed", 0}, fakeUnit{"a.mount", "failed", "failed", 0}),
			Failed, "a.mount, b.service failed", 0,
		},
		"no network is no failure": {
			always(fakeUnit{"systemd-networkd-wait-online.service", "failed", "failed", 0},
				fakeUnit{"systemd-networkd-wait-online@eth0.service", "failed", "failed", 0},
				fakeUnit{"kairos-upgrade@quay.io-x.service", "failed", "failed", 0}),
			Passed, "", 0,
		},
		"restarted once and stayed up": {
			always(fakeUnit{"agent.service", "active", "running", 1}), Passed, "", calm,
		},
		"restarted once, long ago": {
			always(fakeUnit{"old.service", "active", "running", 1}), Passed, "", 0,
		},
		"comes up at the third try": {
			func(at time.Duration) []fakeUnit {
				if at < 5*time.Second {
					return []fakeUnit{{"agent.service", "activating", "auto-restart", int(at / (2 * time.Second))}}
				}
				return []fakeUnit{{"agent.service", "active", "running", 3}}
			}, Passed, "", calm + 4*time.Second,
		},
		"fails in the end": {
			func(at time.Duration) []fakeUnit {
				if at < 5*time.Second {
					return []fakeUnit{{"agent.service", "activating", "auto-restart", 1}}
				}
				return []fakeUnit{{"agent.service", "failed", "failed", 1}}
			}, Failed, "agent.service failed", 5 * time.Second,
		},
		"restarts for ever": {
			func(at time.Duration) []fakeUnit {
				return []fakeUnit{{"agent.service", "active", "running", 1 + int(at/time.Second)}}
			}, TimedOut, "agent.service keeps restarting", time.Minute,
		},
		"waits for a restart for ever": {
			always(fakeUnit{"agent.service", "activating", "auto-restart", 1}),
			TimedOut, "agent.service keeps restarting", time.Minute,
		},
		"many": {
			always(fakeUnit{"a.service", "failed", "", 0}, fakeUnit{"b.service", "failed", "", 0}, fakeUnit{"c.service", "failed", "", 0},
				fakeUnit{"d.service", "failed", "", 0}, fakeUnit{"e.service", "failed", "", 0}, fakeUnit{"f.service", "failed", "", 0}),
			Failed, "d.service, e.service and 1 more failed", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, took := judge(t, time.Minute, test.units)
			if r.State != test.state || !strings.Contains(r.String(), test.says) {
				t.Errorf("%s: %s\nwant %s: %s", r.State, r, test.state, test.says)
			}
			if took < test.took || took > test.took+2*time.Second {
				t.Errorf("took %s, want about %s", took, test.took)
			}
		})
	}
}

// What somebody without any right on the machine can make fail, or fall again
// and again, does not make a boot bad.
func TestUnitsThatAnybodyCanFail(t *testing.T) {
	for name, counts := range map[string]bool{
		"kairos-crypt-bus.service": false, "kairos-config-bus.service": false, "kairos-upgrade-bus.service": false,
		"kairos-boot-assess-bus.service": false, "dbus-io.kairos.Crypt1.service": false,
		"bus-called.service": false, "wanted-too.service": true,
		"accepted@1-192.0.2.1:22-192.0.2.2:999.service": false,
		"user@1000.service":                             false, "user-unit.service": false, "all-users.service": false,
		"session-1.scope": false, "container.scope": false, "run-u12.service": false,
		"trigger-limit-hit.socket": false, "service-start-limit-hit.socket": false, "resources.socket": true,
		"trigger-limit-hit.path": false, "unit-start-limit-hit.path": false, "resources.path": true,
		"started-by-timer.service": true, "gone.service": true, "agent.service": true, "srv.mount": true,
	} {
		t.Run(name, func(t *testing.T) {
			want := Passed
			if counts {
				want = Failed
			}
			if r, _ := judge(t, time.Minute, always(fakeUnit{name, "failed", "failed", 0})); r.State != want {
				t.Errorf("failed: %s: %s, want %s", r.State, r, want)
			}
			if counts {
				want = TimedOut
			}
			if r, _ := judge(t, time.Minute, always(fakeUnit{name, "activating", "auto-restart", 1})); r.State != want && strings.HasSuffix(name, ".service") {
				t.Errorf("falls again and again: %s: %s, want %s", r.State, r, want)
			}
		})
	}
}

func TestSystemdThatDoesNotAnswerFailsTheCheck(t *testing.T) {
	broken := errors.New("connection refused")
	for name, dial := range map[string]func(context.Context) (ServiceManager, func(), error){
		"dial": func(context.Context) (ServiceManager, func(), error) { return nil, nil, broken },
		"call": func(context.Context) (ServiceManager, func(), error) {
			return &fakeManager{units: always(), err: broken}, func() {}, nil
		},
	} {
		err := FailedUnits(dial, nil)(t.Context(), io.Discard, &bytes.Buffer{})
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
