package assess

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/entries"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/journal"
)

// bootable gives a deployment an entry that names a boot file, and the file.
func (m *machine) bootable(id, counters string) {
	file := "kairos/linux-" + strings.Repeat(id[:1], 64)
	serial, _, _ := strings.Cut(id, "-")
	m.write("efi/loader/entries/kairos-"+id+counters+".conf", "sort-key kairos\nversion "+serial+"\nlinux /"+file+"\n")
	m.write("efi/"+file, "kernel")
}

func (m *machine) entryFiles() string {
	m.t.Helper()
	list, err := filepath.Glob(m.path("efi/loader/entries/*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range list {
		list[i] = filepath.Base(list[i])
	}
	return strings.Join(list, " ")
}

// whole is a node with two good deployments, of which good runs.
func whole(t *testing.T) *machine {
	m := newMachine(t)
	m.boot(good, "", deployment.Passive)
	m.bootable(good, "")
	m.bootable(fresh, "")
	return m
}

func TestRepair(t *testing.T) {
	m := whole(t)
	if r, err := m.Repair(t.Context(), false); err != nil || r.Problems == nil || len(r.Problems) != 0 || r.Fallback != "kairos-"+fresh+".conf" || r.Running != good {
		t.Errorf("%+v, %v", r, err)
	}
	m.bootable(fresh, "+0-3")
	before := m.entryFiles()
	r, err := m.Repair(t.Context(), true)
	if err != nil || len(r.Problems) != 1 || r.Problems[0].Action != entries.Remove || r.Problems[0].Done {
		t.Errorf("%+v, %v", r, err)
	}
	if now := m.entryFiles(); now != before {
		t.Errorf("a dry run changed\n%s to\n%s", before, now)
	}
	if r, err = m.Repair(t.Context(), false); err != nil || !r.Problems[0].Done {
		t.Errorf("%+v, %v", r, err)
	}
	if now := m.entryFiles(); now != "kairos-"+good+".conf kairos-"+fresh+".conf kairos-recovery.conf" {
		t.Errorf("entries: %s", now)
	}
	if len(m.told) != 1 || m.told[0].MessageID != journal.Repaired || m.told[0].Fields["KAIROS_ENTRY"] != "kairos-"+fresh+"+0-3.conf" {
		t.Errorf("journal: %+v", m.told)
	}
}

// What can be restored is, by kairos-upgrade; what can't is removed where
// something else is there, and kept where not.
func TestRepairRestoresBootFiles(t *testing.T) {
	var called []string
	m := whole(t)
	lost := m.path("efi/kairos/linux-" + strings.Repeat("3", 64))
	m.Upgrade = func(_ context.Context, args ...string) error {
		called = append(called, strings.Join(args, " "))
		m.write("efi/kairos/linux-"+strings.Repeat("3", 64), "kernel")
		return nil
	}
	os.Remove(lost)
	if r, err := m.Repair(t.Context(), false); err != nil || len(r.Problems) != 1 || r.Problems[0].Action != entries.Restore || !r.Problems[0].Done {
		t.Errorf("%+v, %v", r, err)
	}
	if want := []string{"verify --repair --quiet " + fresh}; !slices.Equal(called, want) {
		t.Errorf("called %q, want %q", called, want)
	}

	// A file of another size than the record says was cut short.
	serial, _ := deployment.ParseID(fresh)
	m.record(deployment.Record{Format: 1, ID: fresh, Serial: serial, ImageDigest: digest("3"), Boot: []deployment.File{
		{Kind: "linux", Path: "kairos/linux-" + strings.Repeat("3", 64), Digest: strings.Repeat("3", 64), Size: 7}}})
	if r, _ := m.Repair(t.Context(), true); len(r.Problems) != 1 || r.Problems[0].Kind != entries.NoFiles {
		t.Errorf("%+v", r)
	}

	offline := errors.New("kairos-upgrade verify --repair: exit status 1: registry is away")
	m.Upgrade = func(context.Context, ...string) error { return offline }
	r, err := m.Repair(t.Context(), false) // it would be tried first at the next boot
	if err != nil || r.Problems[0].Action != entries.Remove || !r.Problems[0].Done {
		t.Errorf("%+v, %v", r, err)
	}
	os.Remove(m.path("efi/kairos/linux-" + strings.Repeat("2", 64)))
	r, err = m.Repair(t.Context(), false)
	if err != nil || !errors.Is(r.Failed, offline) || r.Problems[0].Done || r.Problems[0].Error != offline.Error() {
		t.Errorf("%+v, %v", r, err)
	}
	if now := m.entryFiles(); now != "kairos-"+good+".conf kairos-recovery.conf" {
		t.Errorf("entries: %s", now)
	}
}

func TestRepairRenewsTheEntryOfWhatRuns(t *testing.T) {
	m := whole(t)
	var called []string
	m.Upgrade = func(_ context.Context, args ...string) error {
		called = append(called, strings.Join(args, " "))
		return nil
	}
	os.Remove(m.path("efi/loader/entries/kairos-" + good + ".conf"))
	r, err := m.Repair(t.Context(), false)
	if err != nil || r.Problems[0].Kind != entries.NoEntry || !r.Problems[0].Done || !slices.Equal(called, []string{"rollback " + good + " --quiet"}) {
		t.Errorf("%+v, %v, called %q", r, err, called)
	}
}

// The record of a deployment is damaged, not absent.
func TestRepairWithADamagedRecord(t *testing.T) {
	m := whole(t)
	m.bootable("1-111111111111", "")
	m.record(deployment.Record{ID: "1-111111111111"})
	r, err := m.Repair(t.Context(), false)
	if err != nil || len(r.Problems) != 1 || r.Problems[0].Action != entries.Keep {
		t.Errorf("%+v, %v", r, err)
	}
}

// Names and keys as both generations of systemd-boot have them: 257 has
// counters in its ids and boots UKIs by "efi", 262 has not and knows "uki".
func TestRepairReadsEntriesOfBothGenerations(t *testing.T) {
	for name, key := range map[string]string{"257": "efi", "262": "uki"} {
		t.Run(name, func(t *testing.T) {
			m := whole(t)
			uki := "kairos/uki-" + strings.Repeat("3", 64) + ".efi"
			os.Remove(m.path("efi/loader/entries/kairos-" + fresh + ".conf"))
			m.write("efi/loader/entries/kairos-"+fresh+"+2-1.conf", "sort-key kairos\nversion 3\n"+key+" /"+uki+"\n")
			m.write("efi/"+uki, "UKI")
			r, err := m.Repair(t.Context(), true)
			if err != nil || r.Fallback != "kairos-"+fresh+"+2-1.conf" || len(r.Problems) != 1 || r.Problems[0].Kind != entries.Unnamed {
				t.Errorf("%+v, %v", r, err)
			}
			os.Remove(m.path("efi/" + uki))
			if r, err = m.Repair(t.Context(), true); err != nil || r.Problems[0].Kind != entries.NoFiles {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	for _, id := range []string{"kairos-" + fresh + "+2-1.conf", "kairos-" + fresh + ".conf", "kairos-" + fresh} {
		if got := bls.BaseOf(id); got != "kairos-"+fresh {
			t.Errorf("%s is of %s", id, got)
		}
	}
}

func TestRepairElsewhere(t *testing.T) {
	m := newMachine(t)
	if _, err := m.Repair(t.Context(), false); !errors.Is(err, deployment.ErrNotBooted) {
		t.Error(err)
	}
	m.boot(good, "", deployment.Recovery)
	if r, err := m.Repair(t.Context(), false); !errors.Is(err, ErrNotJudged) || r.Problems != nil {
		t.Errorf("%+v, %v", r, err)
	}
}
