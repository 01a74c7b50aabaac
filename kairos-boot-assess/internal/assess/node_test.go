package assess

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/efivars/efivarstest"
	"github.com/kairos-io/toolkit/lib/journal"
)

// machine is a node made of files in a temporary directory, a systemd that
// answers what a test put there, and a kairos-upgrade that only quarantines.
type machine struct {
	*Node
	t       *testing.T
	systemd *fakeSystemd
	told    []journal.Entry // journal
	now     time.Time
	boots   int
	// announced is how often the bus was told of something.
	announced int
	upgrade   error // what kairos-upgrade fails with
	// noJournal is what journalctl fails with.
	noJournal error
}

// Deployments of the tests: 2 is the older, good one, 3 the newer.
const (
	good  = "2-222222222222"
	fresh = "3-333333333333"
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, now: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
	root := t.TempDir()
	m.Node = &Node{
		Root:       root,
		Vars:       efivars.At(filepath.Join(root, "sys/firmware/efi/efivars")),
		Now:        func() time.Time { m.now = m.now.Add(time.Second); return m.now },
		Uptime:     func() time.Duration { return 12 * time.Second },
		Persistent: func(string) bool { return true },
		Dial: func(context.Context) (PID1, error) {
			if m.systemd == nil {
				return nil, errors.New("connect to systemd: connection refused")
			}
			return m.systemd, nil
		},
		Journal:       func(e journal.Entry) error { m.told = append(m.told, e); return nil },
		Upgrade:       m.quarantine,
		SignalVerdict: func(context.Context) error { m.announced++; return nil },
		Lines: func(_ context.Context, id string, until time.Time) ([]string, error) {
			return []string{fmt.Sprintf("end of %s, %s", id, until.Format(time.TimeOnly))}, m.noJournal
		},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, id := range []string{good, fresh} {
		serial, _ := deployment.ParseID(id)
		m.record(deployment.Record{
			Format: 1, ID: id, Serial: serial, Version: fmt.Sprintf("v%d", serial),
			ImageDigest: digest(id[:1]), ManifestDigest: digest(string("ab"[serial-2])),
		})
	}
	m.write("efi/loader/entries/kairos-"+good+".conf", "sort-key kairos\nversion 2\n")
	m.write("efi/loader/entries/kairos-recovery.conf", "sort-key kairos-recovery\n")
	return m
}

func (m *machine) write(file, text string) {
	m.t.Helper()
	file = m.path(file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) writeJSON(file string, v any) {
	m.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(file, string(data))
}

func (m *machine) record(r deployment.Record) {
	m.writeJSON(filepath.Join(deployment.StoreMount, deployment.Path(r.ID)), r)
}

// quarantine does what kairos-upgrade quarantine add does.
func (m *machine) quarantine(_ context.Context, args ...string) error {
	if m.upgrade != nil {
		return m.upgrade
	}
	noVerdict := len(args) == 8 && args[6] == "--no-verdict"
	if noVerdict {
		args = append(args[:6:6], args[7])
	}
	if len(args) != 7 || args[0] != "quarantine" || args[1] != "add" || args[2] != "--deployment" || args[4] != "--reason" {
		return fmt.Errorf("unexpected arguments %q", args)
	}
	path, err := deployment.QuarantinePath(args[6])
	if err != nil {
		return err
	}
	q := deployment.Quarantine{ManifestDigest: args[6], Deployment: args[3], Reason: args[5], Time: m.now, Cause: deployment.Failed}
	if old := m.quarantineOf(args[6]); noVerdict && (old == nil || old.Cause == deployment.NoVerdict) {
		q.Cause, q.Attempts = deployment.NoVerdict, 1
		if old != nil {
			q.Attempts += old.Attempts
		}
	}
	m.writeJSON(filepath.Join(deployment.StoreMount, path), q)
	return nil
}

func (m *machine) quarantineOf(manifest string) *deployment.Quarantine {
	m.t.Helper()
	store, err := os.OpenRoot(m.path(deployment.StoreMount))
	if err != nil {
		m.t.Fatal(err)
	}
	defer store.Close()
	q, err := deployment.Quarantined(store, manifest)
	if err != nil {
		m.t.Fatal(err)
	}
	return q
}

// boot starts a deployment. counters is what the boot loader made of its
// entry's name: "+2-1", or "" for one that is not counted. Everything of the
// boot before is forgotten but what lasts.
func (m *machine) boot(id, counters string, mode deployment.Mode) {
	m.t.Helper()
	m.boots++
	m.told = nil
	for _, dir := range []string{"run/kairos/boot-assess", "sys/firmware"} {
		if err := os.RemoveAll(m.path(dir)); err != nil {
			m.t.Fatal(err)
		}
	}
	base := "kairos-" + id
	old, _ := filepath.Glob(m.path("efi/loader/entries/" + base + "*.conf"))
	for _, file := range old {
		os.Remove(file)
	}
	serial, _, _ := strings.Cut(id, "-")
	entry := fmt.Sprintf("loader/entries/%s%s.conf", base, counters)
	m.write("efi/"+entry, "sort-key kairos\nversion "+serial+"\n")
	if counters != "" {
		m.countPath(`\` + strings.ReplaceAll(entry, "/", `\`))
	}
	bootID := fmt.Sprintf("boot-%d", m.boots)
	m.write("proc/sys/kernel/random/boot_id", bootID+"\n")
	m.write("proc/cmdline", "quiet\n")
	m.writeJSON(deployment.BootedPath, deployment.Booted{
		ID: id, Mode: mode, Version: "v" + serial, ImageDigest: digest(id[:1]),
		ManifestDigest: digest(map[string]string{good: "a", fresh: "b"}[id]), Entry: base, BootID: bootID,
	})
	m.systemd = &fakeSystemd{}
}

// countPath sets LoaderBootCountPath.
func (m *machine) countPath(path string) {
	dir := m.path("sys/firmware/efi/efivars")
	if err := efivarstest.Set(dir, "LoaderBootCountPath", path+"\x00"); err != nil {
		m.t.Fatal(err)
	}
}

// failingCheck installs a required check that fails and says so.
func (m *machine) failingCheck(says string) {
	m.script("usr/lib/kairos/checks/required.d/50-site.sh", "echo "+says+" >&2; exit 1")
}

func (m *machine) script(file, text string) {
	m.t.Helper()
	m.write(file, "#!/bin/sh\n"+text+"\n")
	if err := os.Chmod(m.path(file), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// fakeSystemd answers with what is in it.
type fakeSystemd struct {
	units    []pid1.Unit
	jobs     []pid1.Job
	requires []string
	rebooted bool
	refuses  error // to reboot
	soft     int   // soft-reboots
}

func (s *fakeSystemd) Units(_ context.Context, states ...string) ([]pid1.Unit, error) {
	var list []pid1.Unit
	for _, u := range s.units {
		if len(states) == 0 || slices.Contains(states, u.Active) || slices.Contains(states, u.Sub) {
			list = append(list, u)
		}
	}
	return list, nil
}
func (s *fakeSystemd) Restarts(context.Context, pid1.Unit) (int, error)   { return 0, nil }
func (s *fakeSystemd) SoftReboots(context.Context) (int, error)           { return s.soft, nil }
func (s *fakeSystemd) Changed() <-chan struct{}                           { return nil }
func (s *fakeSystemd) Jobs(context.Context) ([]pid1.Job, error)           { return s.jobs, nil }
func (s *fakeSystemd) Result(context.Context, pid1.Unit) string           { return "exit-code" }
func (s *fakeSystemd) Requires(context.Context, string) ([]string, error) { return s.requires, nil }
func (s *fakeSystemd) Reboot(context.Context) error                       { s.rebooted = s.refuses == nil; return s.refuses }
func (s *fakeSystemd) Close() error                                       { return nil }

func (*fakeSystemd) Origin(context.Context, pid1.Unit) (pid1.Origin, error) {
	return pid1.Origin{PulledIn: true}, nil
}
func (*fakeSystemd) Up(context.Context, pid1.Unit) (time.Duration, error) { return 0, nil }
