package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/kairos-io/toolkit/lib/exit"
)

func run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errOut bytes.Buffer
	app := App{Name: "tool", Usage: "a program for the test", Out: &out, Err: &errOut, Commands: []Command{
		{Name: "mount", Usage: "mount it", Flags: []Flag{{"writable", "more"}, {"json", "as JSON"}}, Run: func(c *Call) error {
			fmt.Fprintln(c.Out, "writable", c.Bool("writable"))
			return nil
		}},
		{Name: "status", Usage: "say it", Flags: []Flag{{"json", "as JSON"}}, Run: func(*Call) error {
			return exit.Hint(fmt.Errorf("write: %w", syscall.ENOSPC), "make room")
		}},
	}}
	status = app.Run(append([]string{"tool"}, args...))
	return out.String(), errOut.String(), status
}

// TestStrictness holds the same cases as the test of lib/cmdline, as far as a
// program without arguments has them.
func TestStrictness(t *testing.T) {
	for _, test := range []struct {
		args   string
		status int
		stdout string
		stderr string
	}{
		{"mount", 0, "writable false\n", ""},
		{"mount --writable", 0, "writable true\n", ""},
		{"mount -writable=true --", 0, "writable true\n", ""},
		{"mount --writable --writable=false", 0, "writable false\n", ""},
		{"mount --writable=x", 2, "", "tool: option --writable: \"x\" is neither true nor false\n"},
		{"mount x --writable", 2, "", "tool: unexpected argument \"x\"\n"},
		{"--writable mount", 0, "writable true\n", ""},
		{"mount -- -x", 2, "", "tool: unexpected argument \"-x\"\n"},
		{"mount --forced", 2, "", "tool: unknown option --forced\n"},
		{"mount --writeable", 2, "", "tool: unknown option --writeable\nhint: did you mean --writable?\n"},
		{"mount -x", 2, "", "tool: unknown option -x\n"},
		{"mount -w", 2, "", "tool: unknown option -w\n"},
		{"--nonsense", 2, "", "tool: unknown option --nonsense\n"},
		{"mount a", 2, "", "tool: unexpected argument \"a\"\n"},
		{"muont", 2, "", "tool: unknown command \"muont\"\nhint: did you mean \"mount\"?\n"},
		{"stat", 2, "", "tool: unknown command \"stat\"\nhint: did you mean \"status\"?\n"},
		{"mounts", 2, "", "tool: unknown command \"mounts\"\nhint: did you mean \"mount\"?\n"},
		{"nothing-like-it", 2, "", "tool: unknown command \"nothing-like-it\"\nhint: tool --help lists the commands\n"},
		{"", 5, "", "tool: write: no space left on device\nhint: make room\n"},
		{"status", 5, "", "tool: write: no space left on device\nhint: make room\n"},
		{"--version", 0, "tool version devel\n", ""},
		{"mount -v", 0, "tool version devel\n", ""},
		{"mount --generate-bash-completion", 2, "", "tool: unknown option --generate-bash-completion\n"},
		{"__complete", 0, "words\nmount\tmount it\nstatus\tsay it\n", ""},
		{"__complete mou", 0, "words\nmount\tmount it\n", ""},
		{"__complete mount --", 0, "words\n--writable\tmore\n--json\tas JSON\n--help\tshow help\n", ""},
		{"mount __complete", 2, "", "tool: unexpected argument \"__complete\"\n"},
	} {
		stdout, stderr, status := run(t, strings.Fields(test.args)...)
		if status != test.status || stderr != test.stderr || stdout != test.stdout {
			t.Errorf("tool %s: status %d, stdout %q, stderr %q; want %d, %q, %q",
				test.args, status, stdout, stderr, test.status, test.stdout, test.stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	stdout, stderr, status := run(t, "-h")
	if status != 0 || stderr != "" || !strings.Contains(stdout, "   mount    mount it\n") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	stdout, stderr, status = run(t, "help", "mount")
	if status != 0 || stderr != "" || !strings.Contains(stdout, "   --writable     more\n") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}

func TestJSONError(t *testing.T) {
	stdout, stderr, status := run(t, "status", "--json")
	var e exit.Report
	if err := errors.Join(json.Unmarshal([]byte(stderr), &e)); err != nil || stdout != "" || status != 5 || e.Code != 5 || e.Hint != "make room" {
		t.Errorf("status %d, %q, %q, %v", status, stdout, stderr, err)
	}
}
