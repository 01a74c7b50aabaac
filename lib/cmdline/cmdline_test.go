package cmdline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/terminal"
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
			Name:      "stage",
			ArgsUsage: "SOURCE",
			Flags:     []cli.Flag{JSONFlag(), &cli.BoolFlag{Name: "force"}, &cli.StringFlag{Name: "store"}},
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
		{Name: "quarantine", Subcommands: []*cli.Command{
			{Name: "list", Action: func(c *cli.Context) error { return nil }},
			{Name: "add", ArgsUsage: "DIGEST", Flags: []cli.Flag{JSONFlag(), &cli.StringFlag{Name: "reason"}}, Action: func(c *cli.Context) error {
				return fmt.Errorf("quarantine %s: no digest (%s)", c.Args().First(), c.String("reason"))
			}},
		}},
		{Name: "wait", Flags: []cli.Flag{YesFlag(), QuietFlag(), &cli.IntFlag{Name: "number", Aliases: []string{"n"}}, &cli.DurationFlag{Name: "time"}},
			Action: func(c *cli.Context) error {
				return PrintJSON(c, fmt.Sprint(c.Bool("yes"), c.Bool("quiet"), c.Int("number"), c.Duration("time"), c.Args().Slice()))
			}},
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
		{"stage image --force", 0, ""},
		{"--force stage image", 0, ""},
		{"stage --forced image", 2, "tool: unknown option --forced\nhint: did you mean --force?\n"},
		{"stage --nothing-like-it image", 2, "tool: unknown option --nothing-like-it\n"},
		{"stage -x image", 2, "tool: unknown option -x\n"},
		{"--nonsense", 2, "tool: unknown option --nonsense\n"},
		{"stage --store", 2, "tool: option --store needs a value\n"},
		{"stage", 2, "tool: missing argument SOURCE\n"},
		{"stage a b", 2, "tool: unexpected argument \"b\"\n"},
		{"stgae a", 2, "tool: unknown command \"stgae\"\nhint: did you mean \"stage\"?\n"},
		{"nothing-like-it", 2, "tool: unknown command \"nothing-like-it\"\nhint: tool --help lists the commands\n"},
		{"quarantine lst", 2, "tool: unknown command \"lst\"\nhint: did you mean \"list\"?\n"},
		{"quarantine", 2, "tool: no command given\nhint: tool quarantine --help lists the commands\n"},
		{"quarantine list -x", 2, "tool: unknown option -x\n"},
		{"", 2, "tool: no command given\nhint: tool --help lists the commands\n"},
		{"-- stage image", 2, "tool: unknown command \"stage\"\nhint: only arguments may follow --\n"},
		{"help nonsense", 2, "tool: unknown command \"nonsense\"\nhint: tool --help lists the commands\n"},
		{"wait --number x", 2, "tool: option --number: \"x\" is not a whole number\n"},
		{"wait --time=x", 2, "tool: option --time: \"x\" is not a duration\nhint: durations are written 90s, 5m or 1h30m\n"},
		{"wait --yes=perhaps", 2, "tool: option --yes: \"perhaps\" is neither true nor false\n"},
		{"stage full", 5, "tool: write object: no space left on device\n"},
		{"stage bad", 4, "tool: image is quarantined\nhint: add --force\n"},
		{"stage image --generate-bash-completion", 2, "tool: unknown option --generate-bash-completion\n"},
		{"stage --generate-bash-completion", 2, "tool: unknown option --generate-bash-completion\n"},
		{"--generate-bash-completion", 2, "tool: unknown option --generate-bash-completion\n"},
		{"stage image __complete", 2, "tool: unexpected argument \"__complete\"\n"},
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
	want := exit.Report{MessageType: "exit_error", Code: exit.Refused, Reason: "refused", Message: "image is quarantined", Hint: "add --force"}
	if got != want || status != exit.Refused || stdout != stderr {
		t.Errorf("got %+v, status %d, stdout %q; want %+v", got, status, stdout, want)
	}
}

// A shell evaluates what --output=shell prints and gets each value as it is; a
// failure has variables as well.
func TestOutputForShells(t *testing.T) {
	for _, source := range []string{"image", "it's $(reboot) `x`; \"y\"\nline\t\\", ""} {
		stdout, stderr, status := run(t, "stage", "--output=shell", "--force", source)
		if status != 0 || stderr != "" {
			t.Fatalf("status %d, %q", status, stderr)
		}
		out, err := exec.Command("sh", "-c", stdout+`printf '%s|%s' "$KAIROS_SOURCE" "$KAIROS_FORCE"`).Output()
		if err != nil || string(out) != source+"|true" {
			t.Errorf("%q: %q, %v, of %q", source, out, err, stdout)
		}
	}
	stdout, stderr, status := run(t, "stage", "--output", "shell", "bad")
	if status != 4 || !strings.Contains(stdout, "KAIROS_REASON='refused'\n") || stderr != "tool: image is quarantined\nhint: add --force\n" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	if stdout, _, status := run(t, "stage", "--output=json", "x"); status != 0 || stdout != `{"force":false,"source":"x"}`+"\n" {
		t.Errorf("status %d, %q", status, stdout)
	}
	if _, stderr, status := run(t, "stage", "--output=xml", "x"); status != 2 || !strings.Contains(stderr, "is neither json nor shell") {
		t.Errorf("status %d, %q", status, stderr)
	}
	var out bytes.Buffer
	object := `{"path":"/x","a-b":{"c":[1,{"d":null}],"e":[]},"big":12345678901234567890}`
	want := "KAIROS_PATH='/x'\nKAIROS_A_B_C_0='1'\nKAIROS_A_B_C_1_D=''\nKAIROS_A_B_C_COUNT='2'\nKAIROS_A_B_E_COUNT='0'\nKAIROS_BIG='12345678901234567890'\n"
	if err := printShell(&out, []byte(object)); err != nil || out.String() != want {
		t.Errorf("%v, %q", err, out.String())
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

// Options are read wherever they stand, and arrive as they were meant.
func TestOptionsAnywhere(t *testing.T) {
	for line, want := range map[string]string{
		"wait":                           "false false 0 0s []",
		"wait -yq a":                     "true true 0 0s [a]",
		"wait a -yn5 b":                  "true false 5 0s [a b]",
		"wait -n 7 a -q":                 "false true 7 0s [a]",
		"wait a -- -y b --":              "false false 0 0s [a -y b --]",
		"-q wait --time 5m a -n=3":       "false true 3 5m0s [a]",
		"-n 4 --time=1s wait wait":       "false false 4 1s [wait]",
		"wait --yes --yes=false -q=true": "false true 0 0s []",
		"wait -time 2s -yes - b":         "true false 0 2s [- b]",
	} {
		stdout, stderr, status := run(t, strings.Fields(line)...)
		if status != 0 || stderr != "" || strings.TrimSpace(stdout) != strconv.Quote(want) {
			t.Errorf("tool %s: status %d, %q, %q; want %q", line, status, stdout, stderr, want)
		}
	}
}

// Whether an error is JSON is said by the option alone, however it is written,
// and by no word that looks like it.
func TestJSONErrorsFollowTheOption(t *testing.T) {
	for line, want := range map[string]bool{
		"stage --json bad":                     true,
		"stage bad --json":                     true,
		"stage -json bad":                      true,
		"stage --json=true bad":                true,
		"--json stage bad":                     true,
		"stage --json --nonsense bad":          true,
		"stage --nonsense bad --json":          true,
		"stage --json":                         true,
		"stgae --json bad":                     true,
		"quarantine add --json --reason x sha": true,
		"stage --json=false bad":               false,
		"stage --json --json=false bad":        false,
		"quarantine add --reason --json sha":   false,
		"quarantine add sha --reason --json":   false,
		"quarantine add -reason -json sha":     false,
		"quarantine add sha -- --json":         false,
		"stage bad -- --json":                  false,
		"stage --store --json bad":             false,
		"stage --store":                        false,
	} {
		stdout, stderr, status := run(t, strings.Fields(line)...)
		var got exit.Report
		isJSON := json.Unmarshal([]byte(stderr), &got) == nil && got.MessageType == "exit_error" && got.Code == status
		if isJSON != want || status == 0 || want && stdout != stderr || !want && stdout != "" {
			t.Errorf("tool %s: status %d, stdout %q, stderr %q; want JSON: %v", line, status, stdout, stderr, want)
		}
	}
}

func TestHelp(t *testing.T) {
	top, _, _ := run(t, "--help")
	stage, _, _ := run(t, "stage", "--help")
	list, _, _ := run(t, "quarantine", "list", "-h")
	if !strings.Contains(top, "quarantine") || !strings.Contains(stage, "--store") || !strings.Contains(list, "tool quarantine list") {
		t.Fatalf("%q, %q, %q", top, stage, list)
	}
	for line, want := range map[string]string{
		"help": top, "help stage": stage, "help quarantine list": list, "quarantine help list": list, "-h stage": stage,
		"stage --force x --help": stage,
	} {
		if stdout, stderr, status := run(t, strings.Fields(line)...); stdout != want || stderr != "" || status != 0 {
			t.Errorf("tool %s: status %d, %q, %q", line, status, stdout, stderr)
		}
	}
	if stdout, _, status := run(t, "stage", "--version"); status != 0 || stdout != "tool version devel\n" {
		t.Errorf("status %d, %q", status, stdout)
	}
}

// A program that has the command status runs it when it is called bare.
func TestBareProgramShowsItsStatus(t *testing.T) {
	for line, want := range map[string]string{"": "status false", "--json": "status true", "--help": "COMMANDS:", "--version": "tool version"} {
		var out, errOut bytes.Buffer
		app := New("tool", "a program for the test")
		app.Writer, app.ErrWriter = &out, &errOut
		app.Commands = []*cli.Command{
			{Name: "status", Flags: []cli.Flag{JSONFlag()}, Action: func(c *cli.Context) error {
				_, err := fmt.Fprintln(c.App.Writer, "status", c.Bool("json"))
				return err
			}},
			{Name: "stage", Action: func(*cli.Context) error { return errors.New("staged") }},
		}
		if status := Run(t.Context(), app, append([]string{"tool"}, strings.Fields(line)...)); status != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("tool %s: status %d, %q, %q", line, status, out.String(), errOut.String())
		}
	}
}

// Whatever images, registries and configs hold, a program's output stays its
// own: no escape reaches a terminal, and no line or column is forged.
func TestForeignTextIsMasked(t *testing.T) {
	const foreign = "x\x1b]0;owned\x07\u009b2J\u202e\x9b\r\ntool: verified\ty"
	for _, line := range []string{"fail", "fail --json", "print", "print --json", "log"} {
		var out, errOut bytes.Buffer
		app := New("tool", "a program for the test")
		app.Writer, app.ErrWriter = &out, &errOut
		app.Commands = []*cli.Command{
			{Name: "fail", Flags: []cli.Flag{JSONFlag()}, Action: func(*cli.Context) error {
				return exit.Hint(fmt.Errorf("fetch %s: %w", foreign, errors.New(foreign)), "look at %s", foreign)
			}},
			{Name: "print", Flags: []cli.Flag{JSONFlag()}, Action: func(c *cli.Context) error {
				if c.Bool("json") {
					return PrintJSON(c, foreign)
				}
				_, err := terminal.Fprintf(c.App.Writer, "%s\t%s\n", foreign, errors.New(foreign))
				fmt.Fprint(c.App.Writer, strings.TrimSuffix(foreign, "\r\ntool: verified\ty"))
				return err
			}},
			{Name: "log", Action: func(c *cli.Context) error {
				logline.New(c.App.ErrWriter, "tool", false).With("a", foreign).Warn(foreign, "b", foreign)
				return nil
			}},
		}
		Run(t.Context(), app, append([]string{"tool"}, strings.Fields(line)...))
		for _, text := range []string{out.String(), errOut.String()} {
			if terminal.Text(text) != text || strings.Count(text, "\t") > 1 {
				t.Errorf("tool %s: %q", line, text)
			}
			for l := range strings.Lines(text) {
				if strings.HasPrefix(l, "tool: verified") {
					t.Errorf("tool %s: a forged line: %q", line, text)
				}
			}
		}
		if strings.Contains(line, "json") {
			var v any
			if err := json.Unmarshal(out.Bytes(), &v); err != nil || strings.Contains(line, "fail") && out.String() != errOut.String() {
				t.Errorf("tool %s: %v: %q%q", line, err, out.String(), errOut.String())
			}
		}
	}
}
