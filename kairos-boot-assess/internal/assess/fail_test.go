package assess

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
	"github.com/kairos-io/toolkit/lib/deployment"
)

func TestWhy(t *testing.T) {
	failed := pid1.Unit{Name: "db.service", Active: "failed", Sub: "failed"}
	emergency := pid1.Unit{Name: "emergency.service", Active: "activating"}
	const after = "boot-complete.target was not reached"
	for name, test := range map[string]struct {
		systemd *fakeSystemd
		want    string
	}{
		"a job hangs": {
			&fakeSystemd{jobs: []pid1.Job{
				{ID: 1, Unit: "multi-user.target", Type: "start", State: "waiting"},
				{ID: 2, Unit: "slow.service", Type: "start", State: "running"},
				{ID: 3, Unit: "kairos-boot-assess-failed.service", Type: "start", State: "running"},
				{ID: 4, Unit: "old.service", Type: "stop", State: "running"},
			}},
			after + ": waiting for slow.service/start",
		},
		"jobs wait for each other": {
			&fakeSystemd{jobs: []pid1.Job{
				{ID: 1, Unit: "b.target", Type: "start", State: "waiting"},
				{ID: 2, Unit: "a.target", Type: "start", State: "waiting"},
			}},
			after + ": waiting for a.target/start, b.target/start",
		},
		"a required unit failed":  {&fakeSystemd{units: []pid1.Unit{failed}}, after + ": db.service failed (exit-code)"},
		"nobody knows":            {&fakeSystemd{}, after},
		"emergency, failed":       {&fakeSystemd{units: []pid1.Unit{failed, emergency}}, "emergency mode: db.service failed (exit-code)"},
		"emergency, disk missing": {&fakeSystemd{units: []pid1.Unit{emergency}, requires: []string{"srv.mount", "-.mount.d"}}, "emergency mode: srv.mount is not mounted"},
		"emergency queued":        {&fakeSystemd{jobs: []pid1.Job{{ID: 1, Unit: "emergency.target", Type: "start", State: "waiting"}}}, "emergency mode"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.boot(fresh, "+2-1", deployment.Active)
			m.systemd = test.systemd
			f := m.fail() // nothing was recorded before
			if f.Boot.Reason != test.want || !m.systemd.rebooted {
				t.Errorf("rebooted %v\n got %s\nwant %s", m.systemd.rebooted, f.Boot.Reason, test.want)
			}
			if !strings.HasSuffix(f.String(), test.want+". Rebooting, 2 tries left") {
				t.Errorf("%s", f)
			}
			boots := history.Boots(m.events(), "")
			if len(boots) != 1 || boots[0].Outcome != history.Bad || boots[0].Reason != test.want || boots[0].Deployment != fresh {
				t.Errorf("recorded: %+v", boots)
			}
		})
	}
}

func TestStays(t *testing.T) {
	for name, test := range map[string]struct {
		counters string
		prepare  func(m *machine)
		want     string
	}{
		"not on trial":     {"", func(m *machine) {}, "this boot is not on trial: the entry is blessed, or was never counted"},
		"good before":      {"+2-1", func(m *machine) { m.check() }, "this boot was already found good, and is not on trial any more"},
		"observed":         {"+2-1", func(m *machine) { m.write("proc/cmdline", "quiet kairos.assess=observe\n") }, "kairos.assess=observe on the kernel command line asked for this"},
		"emergency wished": {"+2-1", func(m *machine) { m.write("proc/cmdline", "quiet emergency\n") }, "emergency on the kernel command line asked for this"},
		"nothing else to boot": {"+0-3", func(m *machine) {
			os.Remove(m.path("efi/loader/entries/kairos-recovery.conf"))
			os.Remove(m.path("efi/loader/entries/kairos-" + good + ".conf"))
			m.start()
		}, "no tries are left, and there is nothing else to boot"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.boot(fresh, test.counters, deployment.Active)
			test.prepare(m)
			f := m.fail()
			if f.Rebooted || m.systemd.rebooted || f.Stays != test.want {
				t.Errorf("rebooted %v: %q\nwant %q", m.systemd.rebooted, f.Stays, test.want)
			}
			if !strings.Contains(strings.ToLower(f.String()), "not rebooting: "+strings.ToLower(test.want)) {
				t.Errorf("%s", f)
			}
		})
	}
}

func TestRebootThatFailsIsAnError(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "+2-1", deployment.Active)
	m.systemd.refuses = errors.New("access denied")
	if _, err := m.Fail(t.Context()); !errors.Is(err, m.systemd.refuses) {
		t.Errorf("error: %v", err)
	}
	m.systemd = nil
	if _, err := m.Fail(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "reboot: connect to systemd") {
		t.Errorf("error: %v", err)
	}
	if boots := history.Boots(m.events(), ""); len(boots) != 1 || boots[0].Outcome != history.Bad {
		t.Errorf("not recorded: %+v", boots)
	}
}

func TestWhyBad(t *testing.T) {
	bad := func(reason string) history.Boot {
		return history.Boot{Verdict: history.Verdict{Outcome: history.Bad, Reason: reason}}
	}
	none := history.Boot{Verdict: history.Verdict{Outcome: history.None}}
	fine := history.Boot{Verdict: history.Verdict{Outcome: history.Good}}
	for name, test := range map[string]struct {
		boots []history.Boot
		tries int
		want  string
	}{
		"all the same":       {[]history.Boot{bad("a"), bad("a"), bad("a")}, 3, "a (3 of 3 tries)"},
		"one try":            {[]history.Boot{bad("a")}, 1, "a (1 of 1 try)"},
		"the last counts":    {[]history.Boot{bad("a"), bad("b")}, 2, "b (1 of 2 tries)"},
		"one died":           {[]history.Boot{bad("a"), none, bad("a")}, 3, "a (2 of 3 tries); no verdict: 1 boot ended before assessment"},
		"one left no trace":  {[]history.Boot{bad("a"), bad("a")}, 3, "a (2 of 3 tries); no verdict: 1 boot ended before it could be recorded"},
		"all died":           {[]history.Boot{none, none, none}, 3, "no verdict: 3 boots ended before assessment"},
		"some left no trace": {[]history.Boot{none}, 3, "no verdict: 1 boot ended before assessment, 2 boots ended before they could be recorded"},
		"all without trace":  {nil, 3, "no verdict: 3 boots ended before they could be recorded"},
		"never blessed":      {[]history.Boot{fine, fine, fine}, 3, "its boots were good, but the boot entry could not be blessed"},
		"nothing at all":     {nil, 0, "no verdict: nothing was recorded"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, judged := whyBad(test.boots, test.tries); got != test.want || judged == strings.HasPrefix(got, "no verdict: ") {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
		})
	}
}
