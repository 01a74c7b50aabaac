package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/kairos-io/toolkit/lib/efivars"
	"github.com/kairos-io/toolkit/lib/efivars/efivarstest"
	"github.com/kairos-io/toolkit/lib/journal"
)

// The command tests run the program as a process on a machine made of files in
// the directory node: its EFI variables, its ESP, its store. systemd is played
// by node/systemd, kairos-upgrade by a program of this test.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kairos-boot-assess": func() { cmdlinetest.Main(App(fakeNode("node"))) },
		"kairos-upgrade":     fakeUpgrade,
		"journalctl":         fakeJournal,
		"boot":               fakeBoot,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true})
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) { cmdlinetest.Definitions(t, App(assess.Local())) }

func fakeNode(root string) *assess.Node {
	root, _ = filepath.Abs(root)
	n := assess.Local()
	n.Root = root
	n.Vars = efivars.At(filepath.Join(root, "efivars"))
	n.Now = func() time.Time { return now(root) }
	n.Uptime = func() time.Duration { return 9 * time.Second }
	n.Persistent = func(string) bool { _, err := os.Stat(filepath.Join(root, "volatile")); return err != nil }
	n.Dial = func(context.Context) (assess.PID1, error) { return systemd(filepath.Join(root, "systemd")), nil }
	n.SignalVerdict = func(context.Context) error { return nil }
	n.Journal = func(e journal.Entry) error {
		return appendLine(filepath.Join(root, "journal"), e.MessageID+" "+e.Message)
	}
	return n
}

// now is a clock that goes on by a minute each boot.
func now(root string) time.Time {
	id, _ := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	n := 0
	fmt.Sscanf(string(id), bootID("%d"), &n)
	return time.Date(2026, 8, 1, 12, n, 0, 0, time.UTC)
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, line)
	return err
}

// systemd is a directory with the files failed (names of units) and jobs
// (names of running start jobs); a reboot makes the file rebooted.
type systemd string

func (s systemd) words(file string) []string {
	data, _ := os.ReadFile(filepath.Join(string(s), file))
	return strings.Fields(string(data))
}

func (s systemd) Units(_ context.Context, states ...string) (units []pid1.Unit, err error) {
	for _, name := range s.words("failed") {
		if len(states) == 0 || slices.Contains(states, "failed") {
			units = append(units, pid1.Unit{Name: name, Active: "failed", Sub: "failed"})
		}
	}
	return units, nil
}

func (s systemd) Jobs(context.Context) (jobs []pid1.Job, err error) {
	for i, name := range s.words("jobs") {
		jobs = append(jobs, pid1.Job{ID: uint32(i), Unit: name, Type: "start", State: "running"})
	}
	return jobs, nil
}

func (s systemd) Restarts(context.Context, pid1.Unit) (int, error)   { return 0, nil }
func (s systemd) SoftReboots(context.Context) (int, error)           { return len(s.words("soft")), nil }
func (s systemd) Changed() <-chan struct{}                           { return nil }
func (s systemd) Result(context.Context, pid1.Unit) string           { return "exit-code" }
func (s systemd) Requires(context.Context, string) ([]string, error) { return nil, nil }
func (s systemd) Close() error                                       { return nil }
func (s systemd) Reboot(context.Context) error {
	if len(s.words("refuses")) > 0 {
		return errors.New("access denied")
	}
	return appendLine(filepath.Join(string(s), "rebooted"), "rebooted")
}

// fakeUpgrade writes down how it was called.
func fakeUpgrade() {
	if _, err := os.Stat("busy"); err == nil {
		fmt.Fprintln(os.Stderr, "kairos-upgrade: the store is locked by process 7\nhint: wait")
		os.Exit(6)
	}
	if err := appendLine("upgrade.log", strings.Join(os.Args[1:], "|")); err != nil {
		os.Exit(1)
	}
}

// fakeJournal knows boot 3 only, and says how it was called.
func fakeJournal() {
	if !slices.Contains(os.Args, "--boot="+strings.ReplaceAll(bootID("3"), "-", "")) {
		fmt.Fprintln(os.Stderr, "Data from the specified boot is not available: No such boot ID in journal")
		os.Exit(1)
	}
	fmt.Printf("[    7.000000] called: %s\n[    8.000000] 50-site[7]: two \x1b[31mred\n", strings.Join(os.Args[2:], "|"))
}

// bootID returns the id of a boot that has a number.
func bootID(number string) string { return "00000000-0000-0000-0000-00000000000" + number }

// fakeBoot plays a boot: boot N ID COUNTERS MODE. COUNTERS is what the boot
// loader made of the entry's name, "-" for none.
func fakeBoot() {
	number, id, counters, mode := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	if counters == "-" {
		counters = ""
	}
	os.RemoveAll("node/run/kairos/boot-assess")
	os.RemoveAll("node/efivars")
	os.RemoveAll("node/systemd/rebooted")
	old, _ := filepath.Glob("node/efi/loader/entries/kairos-" + id + "*")
	for _, file := range old {
		os.Remove(file)
	}
	entry := "loader/entries/kairos-" + id + counters + ".conf"
	put("node/efi/"+entry, "sort-key kairos\nversion "+id[:1]+"\n")
	put("node/proc/sys/kernel/random/boot_id", bootID(number)+"\n")
	put("node/run/kairos/booted.json", fmt.Sprintf(`{"id": %q, "mode": %q, "version": "v%s", "reference": "registry/node:v%s", "boot_id": %q, "manifest_digest": %q}`,
		id, mode, id[:1], id[:1], bootID(number), "sha256:"+strings.Repeat(id[:1]+"a", 32)))
	if counters != "" {
		if err := efivarstest.Set("node/efivars", "LoaderBootCountPath", `\`+strings.ReplaceAll(entry, "/", `\`)+"\x00"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func put(file, text string) {
	os.MkdirAll(filepath.Dir(file), 0o755)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestManPage holds commands and options against the page that describes them.
func TestManPage(t *testing.T) {
	data, err := os.ReadFile("../../man/kairos-boot-assess.8")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	app := App(fakeNode(t.TempDir()))
	for _, command := range app.Commands {
		if !strings.Contains(page, ".It Cm "+command.Name+"\n") {
			t.Errorf("command %s is not described", command.Name)
		}
		for _, flag := range command.Flags {
			for _, name := range flag.Names() {
				form := "Fl Fl " + name
				if len(name) == 1 {
					form = "Fl " + name
				}
				if !strings.Contains(itemsOf(page), form) {
					t.Errorf("option %s of %s is not described", form, command.Name)
				}
			}
		}
	}
	described := regexp.MustCompile(`(?m)^\.It Cm ([a-z]+)`).FindAllStringSubmatch(sectionOf(page, "COMMANDS"), -1)
	if len(described) == 0 {
		t.Error("no command is described")
	}
	for _, line := range described {
		if !slices.ContainsFunc(app.Commands, func(c *cli.Command) bool { return c.Name == line[1] }) {
			t.Errorf("command %s is described and does not exist", line[1])
		}
	}
	for _, id := range []string{journal.BootGood, journal.BootBad, journal.Fallback, journal.Repaired} {
		if !strings.Contains(page, ".It Li "+id+"\n") {
			t.Errorf("message id %s is not described", id)
		}
	}
}

func sectionOf(page, name string) string {
	_, section, _ := strings.Cut(page, ".Sh "+name+"\n")
	section, _, _ = strings.Cut(section, "\n.Sh ")
	return section
}

// itemsOf returns the lines that begin the descriptions of options.
func itemsOf(page string) string {
	return strings.Join(regexp.MustCompile(`(?m)^\.It Fl .*$`).FindAllString(sectionOf(page, "OPTIONS"), -1), "\n")
}

func (systemd) Origin(context.Context, pid1.Unit) (pid1.Origin, error) {
	return pid1.Origin{PulledIn: true}, nil
}
func (systemd) Up(context.Context, pid1.Unit) (time.Duration, error) { return 0, nil }
