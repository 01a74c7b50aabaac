// Package run executes programs with a fixed argv and says well what went
// wrong: their own error and hint when they are of the toolkit, the end of
// their stderr when they are not.
package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/exit"
)

// graceTime is how long a program has after SIGTERM before it is killed.
const graceTime = 20 * time.Second

// tailLines is how many of the last lines of stderr an error shows.
const tailLines = 8

// Runner executes programs.
type Runner struct {
	// Line gets each line that a program writes to stderr. May be nil.
	Line func(program, line string)
	// Dir is where programs run; the caller's own directory if empty.
	Dir string
	// Files are what programs find as file descriptors 3, 4, …
	Files []*os.File
	// Stdin is what programs read on stdin; nothing if empty. It is where a
	// secret goes.
	Stdin []byte
	// Root is the directory that programs take for /, and are looked for in;
	// the caller's own if empty or "/".
	Root string
	// Env replaces the caller's environment, from which a program otherwise gets
	// what environment says. Extra is added to either.
	Env, Extra []string
	// Drain is how long output is still read once a program has ended that left
	// others behind; 20 s if zero.
	Drain time.Duration
	// Group says that the end of the context kills the program with all that it
	// has started. Otherwise the program is asked to end, and has time for it.
	Group bool
	// Most is how many bytes it may print on stdout; 16 MiB if zero.
	Most int
}

// maxOutput bounds what a program may print by default, in bytes.
const maxOutput = 16 << 20

// Has reports whether a program is in PATH.
func Has(name string) bool {
	_, err := exec.LookPath(own(name, ""))
	return err == nil
}

// own returns where a program of the toolkit is that is in no directory of PATH:
// with the one that runs.
func own(name, root string) string {
	if !strings.HasPrefix(name, "kairos-") || root == "" && inPath(name) || root != "" && buildinfo.BinDir == "/usr/bin" {
		return name
	}
	return filepath.Join(buildinfo.BinDir, name)
}

func inPath(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// Error is the failure of a program.
type Error struct {
	Program string
	Status  int    // exit status, -1 when it did not end by itself
	Cause   string // what it said
}

func (e *Error) Error() string {
	if e.Cause == "" {
		return fmt.Sprintf("%s ended with status %d", e.Program, e.Status)
	}
	return fmt.Sprintf("%s: %s", e.Program, e.Cause)
}

// Output runs a program and returns its stdout. A failure is an *Error with
// the exit status and hint that a program of the toolkit gave; a cancelled
// context sends SIGTERM and is returned as its cause.
func (r Runner) Output(ctx context.Context, argv ...string) ([]byte, error) {
	program := filepath.Base(argv[0])
	cmd := r.command(ctx, argv)
	if len(r.Stdin) > 0 {
		cmd.Stdin = bytes.NewReader(r.Stdin)
	}
	most := cmp.Or(r.Most, maxOutput)
	stdout := &output{left: most}
	lines := &lineWriter{emit: func(line string) {
		if r.Line != nil {
			r.Line(program, line)
		}
	}}
	cmd.Stdout, cmd.Stderr = stdout, lines
	err := cmd.Run()
	lines.flush()
	switch {
	case stdout.left < 0:
		return nil, fmt.Errorf("%s prints more than %d KiB", program, most>>10)
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it left a process behind
		return stdout.bytes.Bytes(), nil
	case ctx.Err() != nil:
		return stdout.bytes.Bytes(), fmt.Errorf("%s: %w", program, ctx.Err())
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return nil, fmt.Errorf("execute %s: %w", program, err)
	}
	return stdout.bytes.Bytes(), failure(program, ended.ExitCode(), lines)
}

// command prepares a program. Beneath a root env finds what is no path, since only
// there it can be looked for.
func (r Runner) command(ctx context.Context, argv []string) *exec.Cmd {
	// Ctrl-C reaches the whole group of the terminal; we decide who gets it.
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	dir, root := r.Dir, r.Root
	if root == "/" {
		root = ""
	}
	argv = append([]string{own(argv[0], root)}, argv[1:]...)
	if root != "" {
		if !filepath.IsAbs(argv[0]) {
			argv = append([]string{"/usr/bin/env", "--"}, argv...)
		}
		attr.Chroot, dir = root, "/"
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.ExtraFiles, cmd.SysProcAttr = dir, r.Env, r.Files, attr
	if r.Env == nil {
		cmd.Env = environment()
	}
	cmd.Env = append(cmd.Env, r.Extra...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if r.Group {
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	}
	cmd.WaitDelay = cmp.Or(r.Drain, graceTime)
	return cmd
}

// output keeps so many bytes and takes all: a program must not hang at a full
// pipe.
type output struct {
	bytes bytes.Buffer
	left  int // negative when there was more
}

func (o *output) Write(p []byte) (int, error) {
	o.bytes.Write(p[:max(0, min(len(p), o.left))])
	o.left -= len(p)
	return len(p), nil
}

// failure makes the error of a program from what it said on stderr.
func failure(program string, status int, lines *lineWriter) error {
	if own := lines.exitError; own != nil {
		var err error = &Error{program, status, own.Message}
		if own.Hint != "" {
			err = exit.Hint(err, "%s", own.Hint)
		}
		return exit.WithCode(err, own.Code)
	}
	var err error
	var said []string
	hint := ""
	for _, line := range lines.tail {
		// In the form for people: lib/exit, Print.
		if text, ok := strings.CutPrefix(line, "hint: "); ok && strings.HasPrefix(program, "kairos-") {
			hint = text
			continue
		}
		said = append(said, strings.TrimPrefix(line, program+": "))
	}
	if err = (&Error{program, status, strings.Join(said, "; ")}); hint != "" {
		err = exit.Hint(err, "%s", hint)
	}
	return err
}

// dropped are variables that are not for the programs executed: the language of
// messages, and what makes them believe that they are the service.
var dropped = []string{"LC_ALL", "LANGUAGE", "NOTIFY_SOCKET", "JOURNAL_STREAM"}

// environment is the caller's, with messages in English and without colours.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(dropped, name)
	})
	return append(env, "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0")
}

// lineWriter splits stderr into lines, keeps the last ones, and takes the
// exit_error object of the toolkit's programs out of them.
type lineWriter struct {
	emit      func(string)
	rest      []byte
	tail      []string
	exitError *exit.Report
}

var _ io.Writer = (*lineWriter)(nil)

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			break
		}
		w.line(string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
	const longest = 64 << 10 // a line without an end
	if len(w.rest) > longest {
		w.flush()
	}
	return len(p), nil
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.line(string(w.rest))
		w.rest = nil
	}
}

func (w *lineWriter) line(s string) {
	s = rendered(s)
	var object exit.Report
	if strings.HasPrefix(s, "{") && json.Unmarshal([]byte(s), &object) == nil && object.MessageType == "exit_error" {
		w.exitError = &object
		return
	}
	if s == "" {
		return
	}
	if w.tail = append(w.tail, s); len(w.tail) > tailLines {
		w.tail = w.tail[1:]
	}
	w.emit(s)
}

// rendered returns a line as a terminal would show it in the end: progress is
// rewritten in place with carriage returns and backspaces.
func rendered(s string) string {
	if !strings.ContainsAny(s, "\r\b") {
		return strings.TrimRight(s, " ")
	}
	var line []rune
	at := 0
	for _, r := range s {
		switch {
		case r == '\r':
			at = 0
		case r == '\b':
			at = max(0, at-1)
		case at < len(line):
			line[at] = r
			at++
		default:
			line = append(line, r)
			at++
		}
	}
	return strings.TrimRight(string(line), " ")
}
