package trial

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/efivars/efivarstest"
)

// machine is an ESP with two good deployments and recovery, and the variables of a boot.
type machine struct {
	t    *testing.T
	esp  *os.Root
	vars efivars.Vars
	dir  string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"esp/loader/entries", "vars"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for name, digest := range map[string]string{"kairos-7-0123456789ab": image, "kairos-6-0123456789ac": strings.Repeat("c", 64), "kairos-recovery": image} {
		text := "title t\nsort-key kairos\nversion " + name[7:8] + "\nlinux /l\noptions kairos.image=sha256:" + digest + " ro\n"
		if name == "kairos-recovery" {
			text = strings.ReplaceAll(text, "sort-key kairos", "sort-key kairos-recovery")
		}
		must(t, os.WriteFile(filepath.Join(dir, "esp/loader/entries", name+".conf"), []byte(text), 0o644))
	}
	esp, err := os.OpenRoot(filepath.Join(dir, "esp"))
	must(t, err)
	t.Cleanup(func() { esp.Close() })
	return machine{t, esp, efivars.At(filepath.Join(dir, "vars")), dir}
}

var image = strings.Repeat("ab", 32)

// set writes a variable as efivarfs shows it.
func (m machine) set(name, value string) {
	m.t.Helper()
	must(m.t, efivarstest.Set(filepath.Join(m.dir, "vars"), name, value+"\x00"))
}

// menu returns the names of the entries in their order.
func (m machine) menu() string {
	entries, err := bls.ESP{Root: m.esp}.Entries()
	must(m.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name.String())
	}
	return strings.Join(names, " ")
}

const untouched = "kairos-7-0123456789ab.conf kairos-6-0123456789ac.conf kairos-recovery.conf"

func TestBegin(t *testing.T) {
	// With counters, systemd-boot up to 257 gives the name of the file, later ones the id.
	for _, selected := range []string{"kairos-7-0123456789ab.conf", "kairos-7-0123456789ab"} {
		m := newMachine(t)
		m.set("LoaderEntrySelected", selected)
		name, err := Begin(m.vars, m.esp, image)
		if err != nil || name.State() != bls.Pending {
			t.Errorf("%s: %v, %v", selected, name, err)
		}
		if got := m.menu(); got != "kairos-7-0123456789ab+2-1.conf kairos-6-0123456789ac.conf kairos-recovery.conf" {
			t.Errorf("%s: the menu is %s", selected, got)
		}
		// What the boot loader does with it.
		for _, next := range []string{"kairos-7-0123456789ab+1-2.conf", "kairos-7-0123456789ab+0-3.conf"} {
			entries, err := bls.ESP{Root: m.esp}.Entries()
			must(t, err)
			must(t, m.esp.Rename("loader/entries/"+entries[0].Name.String(), "loader/entries/"+next))
		}
		if got := m.menu(); !strings.HasPrefix(got, "kairos-6-0123456789ac.conf ") {
			t.Errorf("after its tries the menu is %s", got)
		}
	}
}

func TestNothingToCount(t *testing.T) {
	for name, prepare := range map[string]func(m machine){
		"counted by the boot loader": func(m machine) {
			m.set("LoaderEntrySelected", "kairos-7-0123456789ab+2-1.conf")
			m.set("LoaderBootCountPath", `\loader\entries\kairos-7-0123456789ab+2-1.conf`)
		},
		"recovery":    func(m machine) { m.set("LoaderEntrySelected", "kairos-recovery.conf") },
		"not of ours": func(m machine) { m.set("LoaderEntrySelected", "debian.conf") },
	} {
		m := newMachine(t)
		prepare(m)
		if _, err := Begin(m.vars, m.esp, image); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
		if got := m.menu(); got != untouched {
			t.Errorf("%s: the menu is %s", name, got)
		}
	}
}

func TestUnknownBoot(t *testing.T) {
	for name, prepare := range map[string]func(m machine){
		"no variables":     func(machine) {},
		"an entry is gone": func(m machine) { m.set("LoaderEntrySelected", "kairos-9-0123456789ab.conf") },
		"another image":    func(m machine) { m.set("LoaderEntrySelected", "kairos-6-0123456789ac.conf") },
	} {
		m := newMachine(t)
		prepare(m)
		if _, err := Begin(m.vars, m.esp, image); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
		if got := m.menu(); got != untouched {
			t.Errorf("%s: the menu is %s", name, got)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
