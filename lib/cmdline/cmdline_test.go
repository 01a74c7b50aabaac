package cmdline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

// run runs a program with one command of each kind and returns what a shell
// would see.
func run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errOut bytes.Buffer
	app := New("tool", "a program for the test")
	app.Writer, app.ErrWriter = &out, &errOut
	app.Commands = []*cli.Command{
		{
			Name:  "stage",
			Flags: []cli.Flag{JSONFlag(), &cli.BoolFlag{Name: "force"}, &cli.StringFlag{Name: "store"}},
			Action: func(c *cli.Context) error {
				args, err := Arguments(c, "SOURCE")
				if err != nil {
					return err
				}
				if args[0] == "full" {
					return fmt.Errorf("write object: %w", syscall.ENOSPC)
				}
				if args[0] == "bad" {
					return exit.Hint(exit.WithCode(errors.New("image is quarantined"), exit.Refused), "add --force")
				}
				return PrintJSON(c, map[string]any{"source": args[0], "force": c.Bool("force")})
			},
		},
		{Name: "quarantine", Subcommands: []*cli.Command{{Name: "list", Action: func(c *cli.Context) error { return nil }}}},
	}
	status = Run(context.Background(), app, append([]string{"tool"}, args...))
	return out.String(), errOut.String(), status
}

func TestStrictness(t *testing.T) {
	for _, test := range []struct {
		args   string
		status int
		stderr string
	}{
		{"stage image", 0, ""},
		{"stage --force image", 0, ""},
		{"stage -- -image", 0, ""},
		{"stage image --force", 2, "tool: option --force stands behind an argument\nhint: options go before arguments; write -- before an argument that starts with a dash\n"},
		{"stage --forced image", 2, "tool: unknown option --forced\n"},
		{"stage -x image", 2, "tool: unknown option -x\n"},
		{"--nonsense", 2, "tool: unknown option --nonsense\n"},
		{"stage --store", 2, "tool: flag needs an argument: -store\n"},
		{"stage", 2, "tool: missing argument SOURCE\n"},
		{"stage a b", 2, "tool: unexpected argument \"b\"\n"},
		{"stgae a", 2, "tool: unknown command \"stgae\"\nhint: did you mean \"stage\"?\n"},
		{"nothing-like-it", 2, "tool: unknown command \"nothing-like-it\"\nhint: tool --help lists the commands\n"},
		{"quarantine lst", 2, "tool: unknown command \"lst\"\nhint: did you mean \"list\"?\n"},
		{"quarantine", 2, "tool: no command given\nhint: tool --help lists the commands\n"},
		{"quarantine list -x", 2, "tool: unknown option -x\n"},
		{"", 2, "tool: no command given\nhint: tool --help lists the commands\n"},
		{"stage full", 5, "tool: write object: no space left on device\n"},
		{"stage bad", 4, "tool: image is quarantined\nhint: add --force\n"},
	} {
		stdout, stderr, status := run(t, strings.Fields(test.args)...)
		if status != test.status || stderr != test.stderr {
			t.Errorf("tool %s: status %d, stderr %q; want %d, %q", test.args, status, stderr, test.status, test.stderr)
		}
		if status != 0 && stdout != "" {
			t.Errorf("tool %s: failed, but printed %q on stdout", test.args, stdout)
		}
	}
}

func TestHelpAndVersionGoToStdout(t *testing.T) {
	for _, arg := range []string{"--help", "--version"} {
		stdout, stderr, status := run(t, arg)
		if status != 0 || stderr != "" || !strings.Contains(stdout, "tool") {
			t.Errorf("tool %s: status %d, stdout %q, stderr %q", arg, status, stdout, stderr)
		}
	}
}

func TestJSONErrorIsOneObjectOnStderr(t *testing.T) {
	stdout, stderr, status := run(t, "stage", "--json", "bad")
	var got exit.Report
	if err := json.Unmarshal([]byte(stderr), &got); err != nil {
		t.Fatalf("stderr %q: %v", stderr, err)
	}
	want := exit.Report{MessageType: "exit_error", Code: exit.Refused, Message: "image is quarantined", Hint: "add --force"}
	if got != want || status != exit.Refused || stdout != "" {
		t.Errorf("got %+v, status %d, stdout %q; want %+v", got, status, stdout, want)
	}
}

func TestInterrupted(t *testing.T) {
	var errOut bytes.Buffer
	app := New("tool", "")
	app.ErrWriter = &errOut
	ctx, cancel := context.WithCancel(context.Background())
	app.Action = func(c *cli.Context) error { cancel(); <-c.Context.Done(); return c.Context.Err() }
	if status := Run(ctx, app, []string{"tool"}); status != exit.Interrupted {
		t.Errorf("status %d, want %d (%s)", status, exit.Interrupted, errOut.String())
	}
}

func TestCompletionListsCommandsAndOptions(t *testing.T) {
	args := os.Args // urfave/cli looks there for the word before
	defer func() { os.Args = args }()
	os.Args = []string{"tool", "--generate-bash-completion"}
	stdout, _, _ := run(t, os.Args[1:]...)
	if !strings.Contains(stdout, "stage") || !strings.Contains(stdout, "quarantine") {
		t.Errorf("completion of commands: %q", stdout)
	}
}
