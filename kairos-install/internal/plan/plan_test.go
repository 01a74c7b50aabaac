package plan

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
)

var update = flag.Bool("update", false, "write the golden files")

func table(disk string) layout.Table {
	var t layout.Table
	for i, label := range []string{"COS_GRUB", "COS_OEM", "COS_RECOVERY", "COS_STATE", "COS_PERSISTENT"} {
		t.Partitions = append(t.Partitions, layout.Partition{Label: label, Node: disk + string(rune('1'+i)), Number: i + 1})
	}
	return t
}

func input() Input {
	return Input{
		Device: "/dev/vda", Table: table("/dev/vda"), Mounts: "/run/kairos/install",
		Repart: layout.Repart{Definitions: []string{"/etc/kairos/repart.d", "/usr/lib/kairos/repart.d", "/run/kairos/install/repart.d"}},
		Source: "store:/run/kairos/store:1-0123456789ab",
	}
}

// TestGolden pins what --dry-run prints, and so what is executed.
func TestGolden(t *testing.T) {
	full := input()
	full.Kargs = []string{"console=ttyS0,115200", "a.b='c d'"}
	full.Configs = []Config{{Name: "90_custom.yaml", Data: []byte("#cloud-config\n")}, {Name: "91_custom.yaml"}}
	full.Hooks, full.Verity, full.Firmware = true, true, true
	encrypted := input()
	encrypted.Configs = full.Configs[:1]
	encrypted.Encryption = &Encryption{Labels: []string{"COS_OEM", "COS_PERSISTENT"}, Kinds: []string{"tpm2", "passphrase"},
		Passphrase: "/run/words", Save: "/mnt/stick/key", Escrow: recoverykey.Escrow{URL: "https://keys.example.org/new?token=secret"}}
	for name, in := range map[string]Input{"full": full, "least": input(), "encrypted": encrypted} {
		var got bytes.Buffer
		Print(&got, Build(in))
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s (go test -update writes it):\n%s", name, got.String())
		}
	}
}

// TestBootLoaderComesLast: nothing that has to be there before the disk boots
// comes after the boot loader.
func TestBootLoaderComesLast(t *testing.T) {
	in := input()
	in.Configs = []Config{{Name: "90_custom.yaml"}}
	in.Hooks, in.Verity, in.Firmware = true, true, true
	in.Encryption = &Encryption{Labels: []string{"COS_OEM"}, Escrow: recoverykey.Escrow{Command: []string{"keep"}}}
	seen := false
	for _, s := range Build(in) {
		switch {
		case s.Name == "boot-loader":
			seen = true
		case seen && !s.Optional && s.Name != "finish":
			t.Errorf("step %s comes after the boot loader", s.Name)
		case !seen && s.Optional && s.Name != "escrow" && s.Name != "chroot-hook":
			t.Errorf("step %s is optional", s.Name)
		}
	}
	if !seen {
		t.Error("no boot loader")
	}
}

// action is one that notes that it was done, and fails.
type action struct {
	name string
	err  error
	log  *[]string
}

func (a action) String() string { return a.name }

func (a action) Do(context.Context, Host) error {
	*a.log = append(*a.log, a.name)
	return a.err
}

func TestRunStopsWhereItFails(t *testing.T) {
	failed := errors.New("no such thing")
	for _, test := range []struct {
		name       string
		fail       string
		done       string
		unfinished bool
		ok         bool
	}{
		{"nothing", "", "pre partition stage boot firmware", false, true},
		{"before the disk is touched", "pre", "pre", false, false},
		{"while it is made", "partition", "pre partition", true, false},
		{"in the middle", "stage", "pre partition stage", true, false},
		{"after it boots", "firmware", "pre partition stage boot firmware", false, true},
	} {
		var log []string
		step := func(name string, optional bool) Step {
			a := action{name: name, log: &log}
			if name == test.fail {
				a.err = failed
			}
			step := Step{Name: name, Title: "do " + name, Optional: optional, Actions: []Action{a}}
			if name == "boot" {
				step.Name = "boot-loader"
			}
			return step
		}
		steps := []Step{step("pre", false), step("partition", false), step("stage", false), step("boot", false), step("firmware", true)}
		var out bytes.Buffer
		err := Run(t.Context(), Host{}, steps, &progress.Reporter{W: &out, Name: "x"})
		if got := strings.Join(log, " "); got != test.done {
			t.Errorf("%s: did %q, want %q", test.name, got, test.done)
		}
		if (err == nil) != test.ok || errors.Is(err, ErrUnfinished) != test.unfinished || !test.ok && !errors.Is(err, failed) {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.fail == "firmware" && !strings.Contains(out.String(), "x: warning: do firmware: no such thing") {
			t.Errorf("%s: said %q", test.name, out.String())
		}
	}
}

func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var log []string
	steps := []Step{
		{Name: "partition", Title: "partition", Actions: []Action{action{name: "one", log: &log}, cancelling{cancel}, action{name: "two", log: &log}}},
	}
	err := Run(ctx, Host{}, steps, &progress.Reporter{W: new(bytes.Buffer)})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnfinished) || len(log) != 1 {
		t.Errorf("%v, did %v", err, log)
	}
}

type cancelling struct{ cancel context.CancelFunc }

func (c cancelling) String() string                 { return "cancel" }
func (c cancelling) Do(context.Context, Host) error { c.cancel(); return nil }

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	w := Write{dir + "/loader/loader.conf", 0o600, []byte("timeout 3\n")}
	if err := w.Do(t.Context(), Host{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(w.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if strings.Contains(w.String(), "timeout") {
		t.Errorf("the plan shows what a config holds: %s", w)
	}
}

func TestStageKeepsTheAnswer(t *testing.T) {
	var got Staged
	h := Host{Staged: func(label string, s Staged) { got = s }}
	s := Stage{Command{Argv: []string{"echo", `{"id":"1-0123456789ab","verity":true,"more":1}`}}, "COS_STATE", nil}
	if err := s.Do(t.Context(), h); err != nil || got.ID != "1-0123456789ab" || !got.Verity {
		t.Errorf("%+v, %v", got, err)
	}
	s.Argv = []string{"echo", "staged"}
	if err := s.Do(t.Context(), h); exit.Code(err) != exit.Failed {
		t.Errorf("an answer that is no JSON: %v", err)
	}
}

// The deployment is told of the volumes that were made, before its source.
func TestStageExpectsVolumes(t *testing.T) {
	e := &Encryption{Volumes: []recoverykey.Volume{{Label: "COS_OEM", UUID: "u1"}, {Label: "COS_PERSISTENT", UUID: "u2"}}}
	s := Stage{Command{Argv: []string{"kairos-upgrade", "stage", "source"}}, "COS_STATE", e}
	want := []string{"kairos-upgrade", "stage", "--crypt=COS_OEM:u1", "--crypt=COS_PERSISTENT:u2", "source"}
	if have := s.argv(); !slices.Equal(have, want) {
		t.Errorf("%q", have)
	}
	for _, in := range []Input{{Encryption: e}, {SecureBoot: true}} {
		if !strings.HasSuffix(in.loaderConf(), "\neditor no\n") {
			t.Errorf("%q", in.loaderConf())
		}
	}
	if in := (Input{}); strings.Contains(in.loaderConf(), "editor") {
		t.Errorf("%q", in.loaderConf())
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"a=b,c": "a=b,c", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'"} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestEntries(t *testing.T) {
	good := map[string]string{
		"loader/entries/kairos-1-0123456789ab+3.conf": "sort-key kairos\nversion 1\nlinux /kairos/linux-1\n",
		"loader/entries/kairos-recovery.conf":         "sort-key kairos-recovery\nversion 1\nlinux /kairos/linux-1\n",
		"kairos/linux-1":                              "kernel",
	}
	for _, test := range []struct {
		name   string
		change map[string]string // "" removes
		want   string            // of the error
	}{
		{"all there", nil, ""},
		{"no entries", map[string]string{"loader/entries/kairos-recovery.conf": "", "loader/entries/kairos-1-0123456789ab+3.conf": ""}, "0 boot entries"},
		{"no deployment", map[string]string{"loader/entries/kairos-1-0123456789ab+3.conf": "", "loader/entries/a.conf": "sort-key a\n"}, "a.conf boots first"},
		{"no tries", map[string]string{"loader/entries/kairos-1-0123456789ab+3.conf": "", "loader/entries/kairos-1-0123456789ab.conf": "sort-key kairos\n"}, "boots first, which is no new deployment"},
		{"no kernel", map[string]string{"kairos/linux-1": ""}, "kairos/linux-1: no such file"},
		{"no directory", nil, "loader/entries"},
		{"recovery first", map[string]string{"loader/entries/kairos-recovery.conf": "sort-key a\nlinux /kairos/linux-1\n"}, "kairos-recovery.conf boots first"},
	} {
		esp := t.TempDir()
		write := func(name, content string) {
			file := filepath.Join(esp, name)
			if content == "" {
				os.Remove(file)
				return
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		for name, content := range good {
			write(name, content)
		}
		for name, content := range test.change {
			write(name, content)
		}
		if test.name == "no directory" {
			if err := errors.Join(os.RemoveAll(filepath.Join(esp, "loader/entries")), os.WriteFile(filepath.Join(esp, "loader/entries"), nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		err := Entries{esp}.Do(t.Context(), Host{})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// A failed installation closes the volumes that it has opened, also when some can't be closed, and
// one without encryption has none.
func TestAbandon(t *testing.T) {
	var none *Encryption
	if err := none.Abandon(t.Context(), run.Runner{}, "/mnt"); err != nil {
		t.Error(err)
	}
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	for name, script := range map[string]string{
		"umount":            "echo umount \"$@\" >> " + log + "; exit 32",
		recoverykey.Program: "echo close \"$@\" >> " + log + "; case \"$*\" in *COS_OEM*) exit 5;; esac",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what interrupts an installation does not keep its volumes open
	err := (&Encryption{Key: new(recoverykey.Key), opened: []string{"COS_OEM", "COS_PERSISTENT"}}).Abandon(ctx, run.Runner{}, "/mnt")
	if err == nil {
		t.Error("COS_OEM was not closed, and nobody is told")
	}
	said, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"COS_OEM", "COS_PERSISTENT"} {
		if !regexp.MustCompile(`(?m)^close .*` + label).Match(said) {
			t.Errorf("%s was not closed:\n%s", label, said)
		}
	}
}
