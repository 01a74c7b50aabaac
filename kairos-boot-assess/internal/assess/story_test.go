package assess

import (
	"cmp"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/journal"
)

// start and check run what the units run, and must not fail.
func (m *machine) start() history.Boot {
	m.t.Helper()
	s, err := m.Start(m.t.Context())
	if err := cmp.Or(err, s.Unrecorded); err != nil {
		m.t.Fatal(err)
	}
	return s.Boot
}

func (m *machine) check() history.Boot {
	m.t.Helper()
	b, err := m.Check(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m *machine) fail() Failure {
	m.t.Helper()
	f, err := m.Fail(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

func (m *machine) events() []history.Event {
	m.t.Helper()
	log, _ := m.history()
	events, err := log.Read()
	if err != nil {
		m.t.Fatal(err)
	}
	return events
}

func TestGoodBoot(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "+2-1", deployment.Active)
	m.script("usr/lib/kairos/checks/required.d/50-env", `test "$KAIROS_MODE $KAIROS_DEPLOYMENT $KAIROS_COUNTED $KAIROS_TRIES_LEFT" = "active `+fresh+` 1 2"`)
	m.script("usr/lib/kairos/checks/wanted.d/60-time", "echo clock is off >&2; exit 1")
	m.start()
	b := m.check()
	if b.Outcome != history.Good || b.Reason != "" || len(b.Checks) != 6 || b.Checks[5].OK() {
		t.Errorf("%+v", b)
	}
	if len(m.told) != 1 || m.told[0].MessageID != journal.BootGood {
		t.Errorf("journal: %+v", m.told)
	}
	if m.announced != 1 {
		t.Errorf("announced %d times", m.announced)
	}
	s, err := m.Status()
	if err != nil || s.Boot.Outcome != history.Good || s.LastFallback != nil || s.Boot.Running != "" || s.EntryState != "pending" {
		t.Errorf("status: %+v, %v", s, err)
	}
	if events := m.events(); len(events) != 2 { // not one start too many
		t.Errorf("events: %+v", events)
	}
}

// TestFallback is the story of the demo: three tries fail, the machine comes
// back, the image is quarantined with the reason, once.
func TestFallback(t *testing.T) {
	m := newMachine(t)
	m.failingCheck("disk is missing")
	for _, counters := range []string{"+2-1", "+1-2", "+0-3"} {
		m.boot(fresh, counters, deployment.Active)
		m.start()
		if b := m.check(); b.Outcome != history.Bad || b.Reason != "required check 50-site.sh failed: exit status 1: disk is missing" {
			t.Fatalf("%s: %+v", counters, b)
		}
		f := m.fail()
		if !m.systemd.rebooted || !f.Rebooted {
			t.Fatalf("%s: not rebooted: %s", counters, f)
		}
		if len(m.told) != 1 || m.told[0].MessageID != journal.BootBad || m.told[0].Fields["KAIROS_REASON"] != f.Boot.Reason {
			t.Errorf("%s: journal: %+v", counters, m.told)
		}
		if counters == "+0-3" && !strings.HasSuffix(f.String(), "Rebooting into kairos-"+good+", no tries are left") {
			t.Errorf("%s", f)
		}
	}
	if q := m.quarantineOf(digest("b")); q != nil {
		t.Fatalf("quarantined too early: %+v", q)
	}
	os.RemoveAll(m.path("usr/lib/kairos/checks"))
	m.boot(good, "", deployment.Passive)
	m.start()
	const reason = "required check 50-site.sh failed: exit status 1: disk is missing (3 of 3 tries)"
	q := m.quarantineOf(digest("b"))
	if q == nil || q.Reason != reason || q.Deployment != fresh {
		t.Fatalf("quarantine: %+v", q)
	}
	if len(m.told) != 1 || m.told[0].MessageID != journal.Fallback || m.told[0].Fields["KAIROS_QUARANTINED"] != "true" {
		t.Errorf("journal: %+v", m.told)
	}
	m.check()
	s, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	const sentence = "fell back from " + fresh + " (v3) to " + good + " (v2): " + reason
	if s.LastFallback == nil || s.LastFallback.Fallback.String() != sentence {
		t.Errorf("last fallback: %+v", s.LastFallback)
	}
	if len(s.Quarantined) != 1 || s.Boot.Outcome != history.Good {
		t.Errorf("status: %+v", s)
	}
	m.boot(good, "", deployment.Passive) // the bad entry is still there
	m.start()
	m.check()
	if n := len(history.Fallbacks(m.events())); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestForgottenFallbackIsNotToldAgain(t *testing.T) {
	m := newMachine(t)
	m.write("efi/loader/entries/kairos-"+fresh+"+0-3.conf", "sort-key kairos\n")
	m.boot(good, "", deployment.Passive)
	m.start()
	os.RemoveAll(m.path(HistoryDir))
	m.boot(good, "", deployment.Passive)
	m.start()
	if n := len(history.Fallbacks(m.events())); n != 0 {
		t.Errorf("told %d times", n)
	}
}

// TestForcedImageFailsAgain: an image in quarantine was staged by force, as
// another deployment.
func TestForcedImageFailsAgain(t *testing.T) {
	m := newMachine(t)
	m.write("efi/loader/entries/kairos-"+fresh+"+0-3.conf", "sort-key kairos\n")
	m.boot(good, "", deployment.Passive)
	m.start()
	const forced = "4-333333333333"
	m.record(deployment.Record{Format: 1, ID: forced, Serial: 4, ImageDigest: digest("3"), ManifestDigest: digest("b")})
	m.write("efi/loader/entries/kairos-"+forced+"+0-3.conf", "sort-key kairos\n")
	m.boot(good, "", deployment.Passive)
	m.start()
	told := history.Fallbacks(m.events())
	if len(told) != 2 || told[1].Fallback.From != forced || !told[1].Fallback.Quarantined {
		t.Errorf("told: %+v", told)
	}
}

// TestNoVerdict: boots that ended before anybody could judge them may be the
// power supply's fault. The image is tried once more, and then refused; what the
// kernel says when it crashes is a verdict.
func TestNoVerdict(t *testing.T) {
	m := newMachine(t)
	m.write("efi/loader/entries/kairos-"+fresh+"+0-3.conf", "sort-key kairos\n")
	m.boot(good, "", deployment.Passive)
	m.start()
	q := m.quarantineOf(digest("b"))
	if q == nil || q.Cause != deployment.NoVerdict || q.Refuses() || q.Reason != "no verdict: 3 boots ended before they could be recorded" {
		t.Fatalf("%+v", q)
	}
	if told := history.Fallbacks(m.events()); len(told) != 1 || !told[0].Fallback.TriedAgain || told[0].Fallback.Quarantined ||
		!strings.HasSuffix(told[0].Fallback.String(), "; it is tried once more before it is refused") {
		t.Errorf("%+v", told)
	}
	const again = "4-333333333333"
	m.record(deployment.Record{Format: 1, ID: again, Serial: 4, ImageDigest: digest("3"), ManifestDigest: digest("b")})
	m.write("efi/loader/entries/kairos-"+again+"+0-3.conf", "sort-key kairos\n")
	m.boot(good, "", deployment.Passive)
	m.start()
	if q := m.quarantineOf(digest("b")); q == nil || !q.Refuses() || q.Attempts != 2 {
		t.Errorf("%+v", q)
	}
	if told := history.Fallbacks(m.events()); len(told) != 2 || told[1].Fallback.TriedAgain || !told[1].Fallback.Quarantined {
		t.Errorf("%+v", told)
	}
}

func TestQuarantineIsTriedAgain(t *testing.T) {
	m := newMachine(t)
	m.write("efi/loader/entries/kairos-"+fresh+"+0-3.conf", "sort-key kairos\n")
	m.boot(good, "", deployment.Passive)
	busy := errors.New("kairos-upgrade quarantine add: exit status 6: busy")
	m.upgrade = busy
	if s, err := m.Start(t.Context()); err != nil || !errors.Is(s.Unrecorded, busy) {
		t.Fatalf("unrecorded: %v, error: %v", s.Unrecorded, err)
	}
	if n := len(history.Fallbacks(m.events())); n != 0 {
		t.Fatal("told although nothing was quarantined")
	}
	m.upgrade = nil
	m.check()
	if q := m.quarantineOf(digest("b")); q == nil || q.Reason != "no verdict: 3 boots ended before they could be recorded" {
		t.Errorf("quarantine: %+v", q)
	}
}

func TestNotQuarantined(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(m *machine)
		why     string
	}{
		"same image": {
			func(m *machine) { // a rollback, or a generation of the config
				m.record(deployment.Record{Format: 1, ID: fresh, Serial: 3, ImageDigest: digest("3"), ManifestDigest: digest("a")})
			}, "the same image is running",
		},
		"no manifest": {
			func(m *machine) {
				m.record(deployment.Record{Format: 1, ID: fresh, Serial: 3, ImageDigest: digest("3")})
			}, "the manifest digest is unknown",
		},
		"record gone": {
			func(m *machine) { os.RemoveAll(m.path(deployment.StoreMount + "/deployments/" + fresh + ".json")) },
			"the manifest digest is unknown",
		},
		"good, but never blessed": {
			func(m *machine) {
				for range 3 {
					m.boot(fresh, "+0-3", deployment.Active)
					m.check()
				}
			}, "its last recorded boot was good: its files on this node may be damaged, or its boot entry could not be blessed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			test.prepare(m)
			m.write("efi/loader/entries/kairos-"+fresh+"+0-3.conf", "sort-key kairos\n")
			m.boot(good, "", deployment.Passive)
			m.start()
			told := history.Fallbacks(m.events())
			if len(told) != 1 || told[0].Fallback.Quarantined || told[0].Fallback.NotQuarantined != test.why {
				t.Errorf("told: %+v", told)
			}
			m.boot(good, "", deployment.Passive)
			m.start()
			if n := len(history.Fallbacks(m.events())); n != 1 {
				t.Errorf("told %d times", n)
			}
			if a, b := m.quarantineOf(digest("a")), m.quarantineOf(digest("b")); a != nil || b != nil {
				t.Errorf("quarantined: %+v %+v", a, b)
			}
		})
	}
}

func TestRecoveryAndLiveAreNotJudged(t *testing.T) {
	for _, mode := range []deployment.Mode{deployment.Recovery, deployment.Live} {
		m := newMachine(t)
		m.boot(fresh, "", mode)
		m.failingCheck("no")
		if b := m.start(); b.Outcome != history.Unjudged {
			t.Errorf("%s: %+v", mode, b)
		}
		if b := m.check(); b.Outcome != history.Unjudged || b.Checks != nil {
			t.Errorf("%s: %+v", mode, b)
		}
		if f := m.fail(); f.Rebooted || m.systemd.rebooted {
			t.Errorf("%s: rebooted", mode)
		}
		if events := m.events(); len(events) != 0 {
			t.Errorf("%s: recorded %+v", mode, events)
		}
	}
}

func TestNotBooted(t *testing.T) {
	m := newMachine(t)
	_, err1 := m.Start(t.Context())
	_, err2 := m.Check(t.Context())
	_, err3 := m.Fail(t.Context())
	_, err4 := m.Status()
	for _, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, deployment.ErrNotBooted) {
			t.Errorf("error: %v", err)
		}
	}
}

func TestNoPersistentStorage(t *testing.T) {
	m := newMachine(t)
	m.Persistent = func(string) bool { return false }
	m.boot(fresh, "+2-1", deployment.Active)
	m.start()
	m.check()
	if _, err := os.Stat(m.path(HistoryDir)); err == nil {
		t.Error("written to what does not last")
	}
	s, err := m.Status()
	if err != nil || s.Persistent || len(m.events()) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFullDiskDoesNotChangeTheVerdict(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "+2-1", deployment.Active)
	m.write(HistoryDir, "a file where the directory should be")
	if b := m.check(); b.Outcome != history.Good {
		t.Errorf("%+v", b)
	}
	m.failingCheck("no")
	m.boot(fresh, "+1-2", deployment.Active)
	if b := m.check(); b.Outcome != history.Bad {
		t.Errorf("%+v", b)
	}
	if f := m.fail(); !f.Rebooted {
		t.Errorf("not rebooted: %s", f)
	}
}

func TestTimeoutWhileCheckingStays(t *testing.T) {
	m := newMachine(t)
	m.boot(good, "", deployment.Active) // not on trial: it goes on running
	fifo := m.path("ended")
	m.script("usr/lib/kairos/checks/required.d/50-slow", "until [ -e "+fifo+" ]; do sleep 0.01; done")
	m.start()
	done := make(chan history.Boot)
	go func() { b, _ := m.Node.Check(t.Context()); done <- b }()
	for {
		if b, _ := m.state(); b.Running == "50-slow" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	f := m.fail()
	const want = "boot-complete.target was not reached: check 50-slow is still running"
	if f.Rebooted || f.Boot.Reason != want {
		t.Errorf("%+v", f)
	}
	m.write("ended", "")
	if b := <-done; b.Outcome != history.Bad || b.Reason != want || len(b.Checks) != 5 {
		t.Errorf("%+v", b)
	}
}

// Greenboot's scripts follow the verdict and do not change it.
func TestGreenAndRedScripts(t *testing.T) {
	m := newMachine(t)
	said := m.path("said")
	m.script("usr/lib/greenboot/green.d/10-a.sh", "echo vendor >>"+said)
	m.script("etc/greenboot/green.d/10-a.sh", "echo green $KAIROS_DEPLOYMENT >>"+said+"; exit 1")
	m.script("etc/greenboot/green.d/notes.txt", "echo no script >>"+said)
	m.script("usr/lib/greenboot/red.d/10-b.sh", "echo red >>"+said)
	m.boot(fresh, "+2-1", deployment.Active)
	if b := m.check(); b.Outcome != history.Good {
		t.Errorf("%+v", b)
	}
	m.failingCheck("no")
	m.boot(fresh, "+1-2", deployment.Active)
	if b := m.check(); b.Outcome != history.Bad {
		t.Errorf("%+v", b)
	}
	if got, _ := os.ReadFile(said); string(got) != "green "+fresh+"\nred\n" {
		t.Errorf("scripts said %q", got)
	}
}
