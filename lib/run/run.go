// Package run executes programs with a fixed argv. Its errors have the error and hint
// of a program of the toolkit, or the end of the stderr of other programs.
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
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// graceTime is the time between SIGTERM and SIGKILL.
const graceTime = 20 * time.Second

// tailLines is how many of the last lines of stderr an error shows.
const tailLines = 8

// Runner executes programs.
type Runner struct {
	// Line is called for each line that a program writes to stderr. May be nil.
	Line func(program, line string)
	// Dir is the working directory of programs; the caller's own if empty.
	Dir string
	// Files become the file descriptors 3, 4, … of programs.
	Files []*os.File
	// Stdin is the input of programs; none if empty. Secrets are passed this way.
	Stdin []byte
	// Root is the root directory of programs, in which they are searched as well; the
	// caller's own if empty or "/".
	Root string
	// Env replaces the environment that a program inherits (see environment). Extra is
	// added to either.
	Env, Extra []string
	// Drain is how long output is still read after a program has ended and left other
	// processes behind; 20 s if zero.
	Drain time.Duration
	// Group says that the end of the context kills the program and all its descendants.
	// Otherwise the program gets SIGTERM, and time to end.
	Group bool
	// Most is how many bytes a program may print on stdout; 16 MiB if zero.
	Most int
}

// maxOutput is the default limit of a program's stdout, in bytes.
const maxOutput = 16 << 20

// Has reports whether a program is in PATH.
func Has(name string) bool {
	_, err := exec.LookPath(own(name, ""))
	return err == nil
}

// own returns the path of a program of the toolkit that is not in PATH: the directory
// of the running program.
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
	Status  int    // exit status, -1 when a signal ended the program
	Cause   string // its error message
}

func (e *Error) Error() string {
	if e.Cause == "" {
		return fmt.Sprintf("%s ended with status %d", e.Program, e.Status)
	}
	return fmt.Sprintf("%s: %s", e.Program, e.Cause)
}

// Output runs a program and returns its stdout. A failure is an *Error with the exit
// status and hint of a program of the toolkit. The end of the context sends SIGTERM;
// its cause is returned.
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
		return nil, fmt.Errorf("%s prints more than %s", program, terminal.Bytes(int64(most)))
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

// command prepares the process. Beneath a root, env(1) searches for a program without a
// path, since it has to be searched there.
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

// output keeps up to a number of bytes and discards the rest: a program must not block
// on a full pipe.
type output struct {
	bytes bytes.Buffer
	left  int // negative when there was more output
}

func (o *output) Write(p []byte) (int, error) {
	o.bytes.Write(p[:max(0, min(len(p), o.left))])
	o.left -= len(p)
	return len(p), nil
}

// failure makes the error of a program from its stderr.
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

// dropped are variables that programs don't inherit: the language of messages, and
// variables that belong to this process as a service.
var dropped = []string{"LC_ALL", "LANGUAGE", "NOTIFY_SOCKET", "JOURNAL_STREAM"}

// environment returns the caller's environment, with English messages and without
// colours.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(dropped, name)
	})
	return append(env, "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0")
}

// lineWriter splits stderr into lines, keeps the last ones, and extracts the exit_error
// object of the toolkit's programs.
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
	s = told(s)
	if s == "" {
		return
	}
	if w.tail = append(w.tail, s); len(w.tail) > tailLines {
		w.tail = w.tail[1:]
	}
	w.emit(s)
}

// told returns the text of a line that a program of the toolkit logs under --json,
// as it would without.
func told(s string) string {
	var m progress.Message
	if !strings.HasPrefix(s, "{") || json.Unmarshal([]byte(s), &m) != nil || m.Text == "" {
		return s
	}
	switch m.MessageType {
	case "info", "log":
		return m.Text
	case "warning":
		return "warning: " + m.Text
	}
	return s
}

// rendered returns a line as a terminal would finally show it: progress is rewritten in
// place with carriage returns and backspaces.
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
