package assess

import (
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
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
			why:     "the running system was not started by the boot loader",
		},
		"kexec into the same deployment": {
			prepare: func(m *machine) { m.write("proc/sys/kernel/bootloader_type", "208\n") },
			why:     "kexec started it",
		},
		"started by the boot loader": {
			prepare: func(m *machine) { m.write("proc/sys/kernel/bootloader_type", "176\n") },
			counted: true, left: 2, done: 1,
		},
		"soft-reboot": {prepare: func(m *machine) { m.systemd.soft = 1 }, why: "a soft-reboot started it"},
		"armed again, then kexec": {
			prepare: func(m *machine) {
				os.Rename(m.path(entries+"kairos-"+fresh+"+2-1.conf"), m.path(entries+"kairos-"+fresh+"+3.conf"))
			},
			why: "the entry is kairos-" + fresh + "+3.conf now",
		},
		"kexec into another deployment of the same image": {
			prepare: func(m *machine) {
				m.write(entries+"kairos-"+fresh+"+2-1.conf", "options kairos.image=x kairos.config_generation=4-a quiet\n")
				m.write("proc/cmdline", "kairos.image=x kairos.config_generation=5-b quiet\n")
			},
			why: "the kernel command line is not that of the entry",
		},
		"command line edited in the menu": {
			prepare: func(m *machine) {
				m.write(entries+"kairos-"+fresh+"+2-1.conf", "options kairos.image=x quiet\n")
				m.write("proc/cmdline", "initrd=\\kairos\\initrd-1 kairos.image=x kairos.assess=observe\n")
			},
			counted: true, left: 2, done: 1,
		},
		"nonsense in the variable": {
			prepare: func(m *machine) { m.countPath(`\EFI\Linux\x.efi`) },
			why:     `the boot loader counted "/EFI/Linux/x.efi", which is not a counted entry`,
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
			got := m.trial(booted, m.systemd.soft)
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
		return m.trial(booted, 0).Alternative
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

// A soft-reboot keeps the boot id, /run and the boot loader's variables: what
// runs then has a verdict of its own and is not on trial, whatever became of
// the boot before.
func TestSoftReboot(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "+2-1", deployment.Active)
	m.check()
	m.failingCheck("no")
	m.systemd.soft = 1
	if b := m.start(); b.Outcome != history.Pending || b.SoftReboots != 1 || b.Trial.Counted {
		t.Errorf("%+v", b)
	}
	m.check()
	if f := m.fail(); f.Rebooted || m.systemd.rebooted || !strings.HasPrefix(f.Stays, "this boot is not on trial: a soft-reboot started it") {
		t.Errorf("%+v", f)
	}
	boots, _, _, err := m.History()
	if err != nil || len(boots) != 2 || boots[0].Outcome != history.Good || boots[1].Outcome != history.Bad || boots[0].BootID != boots[1].BootID {
		t.Errorf("%+v, %v", boots, err)
	}
	// It was no try.
	if why, _ := whyBad(append(boots, history.Boot{Verdict: history.Verdict{Outcome: history.None}}), 3); !strings.Contains(why, "1 boot ended before it could be recorded") {
		t.Error(why)
	}
	// It is in emergency mode before anything was recorded.
	m.systemd.soft = 2
	if f := m.fail(); f.Rebooted || f.Boot.SoftReboots != 2 || f.Boot.Trial.Counted {
		t.Errorf("%+v", f)
	}
}

// After kexec from a boot on trial the variables still name its entry.
func TestKexecIntoAnotherDeployment(t *testing.T) {
	m := newMachine(t)
	m.boot(fresh, "+2-1", deployment.Active)
	m.start()
	stale := `\loader\entries\kairos-` + fresh + `+2-1.conf`
	m.boot(good, "", deployment.Passive)
	m.countPath(stale)
	m.failingCheck("no")
	m.check()
	if f := m.fail(); f.Rebooted || !strings.Contains(f.Stays, "kexec?") {
		t.Errorf("%+v", f)
	}
	if s, err := m.Status(); err != nil || s.Boot.Trial.Counted {
		t.Errorf("%+v, %v", s, err)
	}
}
