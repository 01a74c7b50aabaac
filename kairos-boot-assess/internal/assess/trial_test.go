package assess

import (
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
)

func TestTrial(t *testing.T) {
	entries := "efi/loader/entries/"
	for name, test := range map[string]struct {
		mode    deployment.Mode
		prepare func(m *machine)
		counted bool
		why     string // begin of Uncounted
		left    int
		done    int
	}{
		"first try": {prepare: func(m *machine) {}, counted: true, left: 2, done: 1},
		"ESP unreadable": {
			prepare: func(m *machine) { os.RemoveAll(m.path("efi")) },
			counted: true, left: 2, done: 1,
		},
		"id with backslashes of another case is not ours": {
			prepare: func(m *machine) { m.countPath(`\loader\entries\KAIROS-` + fresh + `+2-1.conf`) },
			why:     "the boot loader counted KAIROS-",
		},
		"blessed meanwhile": {
			prepare: func(m *machine) {
				os.Rename(m.path(entries+"kairos-"+fresh+"+2-1.conf"), m.path(entries+"kairos-"+fresh+".conf"))
			},
			why: "the entry is blessed",
		},
		"entry removed": {
			prepare: func(m *machine) { os.Remove(m.path(entries + "kairos-" + fresh + "+2-1.conf")) },
			why:     "entry kairos-" + fresh + " is gone",
		},
		"kexec into another deployment": {
			prepare: func(m *machine) { m.countPath(`\loader\entries\kairos-` + good + `+2-1.conf`) },
			why:     "the boot loader counted kairos-" + good + ", and kairos-" + fresh + " is running",
		},
		"booted.json of another boot": {
			prepare: func(m *machine) { m.write("proc/sys/kernel/random/boot_id", "another\n") },
			why:     "what is running was not started by the boot loader",
		},
		"nonsense in the variable": {
			prepare: func(m *machine) { m.countPath(`\EFI\Linux\x.efi`) },
			why:     `the boot loader counted "/EFI/Linux/x.efi", which is no counted entry`,
		},
		"recovery": {mode: deployment.Recovery, prepare: func(m *machine) {}, why: "recovery systems are not on trial"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			mode := test.mode
			if mode == "" {
				mode = deployment.Active
			}
			m.boot(fresh, "+2-1", mode)
			test.prepare(m)
			booted, err := m.Booted()
			if err != nil {
				t.Fatal(err)
			}
			got := m.trial(booted)
			if got.Counted != test.counted || !strings.HasPrefix(got.Uncounted, test.why) || got.TriesLeft != test.left || got.TriesDone != test.done {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestTrialKnowsWhatBootsNext(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "+0-3", deployment.Active)
	next := func() string {
		booted, err := m.Booted()
		if err != nil {
			t.Fatal(err)
		}
		return m.trial(booted).Alternative
	}
	if got := next(); got != "kairos-"+good {
		t.Errorf("next is %q", got)
	}
	os.Rename(m.path("efi/loader/entries/kairos-"+good+".conf"), m.path("efi/loader/entries/kairos-"+good+"+0-3.conf"))
	if got := next(); got != "kairos-recovery" {
		t.Errorf("next is %q", got)
	}
	os.Remove(m.path("efi/loader/entries/kairos-recovery.conf"))
	if got := next(); got != "" {
		t.Errorf("next is %q", got)
	}
}
