package run

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/exit"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestOutput(t *testing.T) {
	var lines []string
	r := Runner{Line: func(program, line string) { lines = append(lines, program+": "+line) }}
	out, err := r.Output(t.Context(), sh(`echo result; printf 'one\n\n10%%\r20%%\r\ntwo' >&2`)...)
	if err != nil || string(out) != "result\n" {
		t.Errorf("%q, %v", out, err)
	}
	if got := strings.Join(lines, "|"); got != "sh: one|sh: 20%|sh: two" {
		t.Errorf("lines %q", got)
	}
}

func TestFailureOfForeignProgram(t *testing.T) {
	_, err := Runner{}.Output(t.Context(), sh(`for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i" >&2; done; exit 7`)...)
	var failed *Error
	if !errors.As(err, &failed) || failed.Status != 7 || exit.Code(err) != exit.Failed {
		t.Fatalf("%v", err)
	}
	if want := "sh: line 3; line 4; line 5; line 6; line 7; line 8; line 9; line 10"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if _, err := (Runner{}).Output(t.Context(), sh("exit 3")...); err.Error() != "sh ended with status 3" {
		t.Errorf("silent failure: %v", err)
	}
}

// TestFailureOfOurs: status and hint of a program of the toolkit are those of
// the program that executed it.
func TestFailureOfOurs(t *testing.T) {
	_, err := Runner{}.Output(t.Context(), sh(`echo working >&2
		echo '{"message_type":"exit_error","code":5,"message":"no space on COS_STATE","hint":"take a larger disk"}' >&2; exit 5`)...)
	if exit.Code(err) != exit.NoSpace || exit.HintOf(err) != "take a larger disk" || err.Error() != "sh: no space on COS_STATE" {
		t.Errorf("status %d, hint %q: %v", exit.Code(err), exit.HintOf(err), err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := Runner{Line: func(string, string) { cancel() }}
	start := time.Now()
	_, err := r.Output(ctx, sh(`trap 'echo bye; exit 1' TERM; echo ready >&2; while :; do sleep 0.05; done`)...)
	if !errors.Is(err, context.Canceled) || time.Since(start) > graceTime/2 {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("JOURNAL_STREAM", "8:1")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	out, err := Runner{}.Output(t.Context(), "env")
	if err != nil || strings.Contains(string(out), "NOTIFY_SOCKET") || strings.Contains(string(out), "JOURNAL_STREAM") ||
		strings.Contains(string(out), "de_DE") || !strings.Contains(string(out), "LC_ALL=C.UTF-8") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMissingProgram(t *testing.T) {
	if _, err := (Runner{}).Output(t.Context(), "no-such-program"); err == nil || !strings.Contains(err.Error(), "execute no-such-program") {
		t.Errorf("%v", err)
	}
}

func TestRendered(t *testing.T) {
	for in, want := range map[string]string{
		"plain  ":     "plain",
		"10%\r100%\r": "100%",
		"blocks: 0/16\b\b\b\b    \b\b\b\bdone   ": "blocks: done",
		"\b\bx": "x",
	} {
		if got := rendered(in); got != want {
			t.Errorf("rendered(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestOwnEnvironmentAndRoot(t *testing.T) {
	out, err := Runner{Env: []string{"A=1"}, Extra: []string{"B=2"}}.Output(t.Context(), "/usr/bin/env")
	if err != nil || string(out) != "A=1\nB=2\n" {
		t.Errorf("%q, %v", out, err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot")
	}
	root := t.TempDir()
	// Nothing is there, so nothing may be executed, least of all this system's.
	if out, err := (Runner{Root: root}).Output(t.Context(), "echo", "outside"); err == nil {
		t.Errorf("executed: %q", out)
	}
	if out, err := (Runner{Root: "/"}).Output(t.Context(), "echo", "here"); err != nil || string(out) != "here\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	out, err := Runner{}.Output(t.Context(), sh("head -c 20000000 /dev/zero; echo done >&2")...)
	if err == nil || err.Error() != "sh prints more than 16 MiB" || out != nil {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

// TestLeftBehind: what a program leaves in the background does not keep its
// caller waiting, and is no failure.
func TestLeftBehind(t *testing.T) {
	out, err := Runner{Drain: time.Millisecond}.Output(t.Context(), sh("echo out; sleep 1000 & echo $!")...)
	words := strings.Fields(string(out))
	if err != nil || len(words) != 2 || words[0] != "out" {
		t.Fatalf("%q, %v", out, err)
	}
	if pid, err := strconv.Atoi(words[1]); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// What a program started ends with it, where the group does: the pipe that it
// holds open is closed.
func TestGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	line := func(_, line string) { cancel() }
	_, err = Runner{Group: true, Files: []*os.File{writer}, Line: line}.Output(ctx, sh(`trap '' TERM; sleep 1000 & echo ready >&2; wait`)...)
	writer.Close()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := reader.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("what it started is still there: %v", err)
	}
}
