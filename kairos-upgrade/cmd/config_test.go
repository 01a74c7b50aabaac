package cmd

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestAsked: what the node's config says of an upgrade, without SOURCE and
// with it.
// TestHook: a stage is run where a config has steps for it.
func TestHook(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	for _, program := range []string{"kairos-config", "systemctl"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\necho \"$*\" >>"+ran+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for stage, want := range map[string]bool{
		"after-upgrade": true, "after-upgrade.before": true, "after-upgrade-chroot": false, "after-upgrade-chroot.after": false,
		"after-upgrades": false, "before-upgrade": false, "boot": false,
	} {
		os.Remove(ran)
		if err := (asked{hooks: true, stages: []string{stage}}).hook(t.Context(), "after-upgrade"); err != nil {
			t.Fatal(err)
		}
		said, _ := os.ReadFile(ran)
		if strings.Contains(string(said), "after-upgrade") != want {
			t.Errorf("%s: %q", stage, said)
		}
	}
}

func TestAsked(t *testing.T) {
	dir := t.TempDir()
	answer := filepath.Join(dir, "answer")
	if err := os.WriteFile(filepath.Join(dir, "kairos-config"), []byte("#!/bin/sh\n[ \"$*\" = 'get --json .' ] && cat "+answer+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, test := range []struct {
		config, args string
		want         asked
		recovery     bool
		err          string
	}{
		{config: `{"upgrade":{"system":{"source":"oci:quay.io/acme/os:2","uri":"old"},"reboot":true,"force":true}}`,
			want: asked{Source: "oci:quay.io/acme/os:2", Reboot: true, Force: true, hooks: true}},
		{config: `{"upgrade":{"system":{"uri":"oci:quay.io/acme/os:2"},"poweroff":true},"install":{"grub-entry-name":"My OS"}}`,
			want: asked{Source: "oci:quay.io/acme/os:2", Poweroff: true, Title: "My OS", hooks: true}},
		{config: `{"upgrade":{"entry":"recovery","system":{"uri":"a"},"recovery-system":{"source":"b"},"grub-entry-name":"New"}}`,
			want: asked{Source: "b", Title: "New", hooks: true}, recovery: true},
		{config: `{"upgrade":{"recovery":true,"system":{"uri":"a"}}}`, want: asked{Source: "a", hooks: true}, recovery: true},
		{config: `{"upgrade":{"system":{"source":"a"},"reboot":true}}`, args: "quay.io/x/y:1", want: asked{Source: "quay.io/x/y:1", hooks: true}},
		{config: `{}`, err: "missing argument SOURCE"},
		{config: `{"upgrade":{"system":{"source":"a"},"reboot":true,"poweroff":true}}`, want: asked{Source: "a", Reboot: true, hooks: true}},
		{config: `{"upgrade":7}`, err: "read the node's config"},
	} {
		if err := os.WriteFile(answer, []byte(test.config), 0o644); err != nil {
			t.Fatal(err)
		}
		var got asked
		var recovery bool
		m := machine{root: "/"}
		command := stageCommand(m)
		command.Action = func(c *cli.Context) (err error) {
			got, err = m.asked(c, c.Args().Slice())
			recovery = c.Bool("recovery")
			return err
		}
		a := &cli.App{Commands: []*cli.Command{command}, ExitErrHandler: func(*cli.Context, error) {}}
		err := a.Run(append([]string{"kairos-upgrade", "stage"}, strings.Fields(test.args)...))
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %s", test.config, err, test.err)
			}
		case err != nil || !reflect.DeepEqual(got, test.want) || recovery != test.recovery:
			t.Errorf("%s %s: %+v %v %v, want %+v", test.config, test.args, got, recovery, err, test.want)
		}
	}
}
