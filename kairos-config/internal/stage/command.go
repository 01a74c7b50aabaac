package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// drain is how long a command's output is still read after the command has
// ended, or after it was told to end: a process that it left in the background
// may hold the pipe open for ever.
const drain = time.Second

// commands runs the commands one by one, each in a shell of its own; one that
// fails does not stop those behind it, as in Kairos.
func (r *run) commands(ctx context.Context) {
	all := r.step.Spec.Commands
	for i, c := range all {
		if ctx.Err() != nil {
			r.fail(ctx.Err())
			return
		}
		if err := r.shell(ctx, c.Script); err != nil {
			r.fail(fmt.Errorf("command %d of %d (%s): %w", i+1, len(all), c.Pos.FileLine(), err))
		}
	}
}

// shell runs a script with /bin/sh beneath the root. The script goes in
// through a file in memory, because it may hold secrets and everybody can read
// argv; its own stdin is /dev/null. What it prints goes to the log, line by
// line, behind the step's name.
func (r *run) shell(ctx context.Context, script string) error {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	in, err := scriptFile(script)
	if err != nil {
		return err
	}
	defer in.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	out := &lineWriter{left: maxLines, emit: func(line string) { r.Log.Info(r.step.Secrets.Hide(r.step.Name + ": " + line)) }}
	cmd := exec.CommandContext(ctx, "/bin/sh")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	cmd.ExtraFiles = []*os.File{null} // descriptor 3
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", append(commandEnvironment(), r.Env...), drain
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if root := r.Root.Path(); root != "/" {
		cmd.SysProcAttr.Chroot = root
	}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	err = cmd.Run()
	out.flush()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what did not heed SIGTERM
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("stopped after %v", r.Timeout)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // it ended well and left a process in the background
	}
	return err
}

// scriptFile returns a file in memory that makes a shell run a script with
// another stdin than the file: the shell has read the braces to their end
// before it gives its stdin away.
func scriptFile(script string) (*os.File, error) {
	fd, err := unix.MemfdCreate("kairos-config-command", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	if _, err = f.WriteString("{ exec 0<&3 3<&-; " + script + "\n\n}\n"); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write file in memory: %w", err)
	}
	return f, nil
}

// commandEnvironment is that of the unit, without what is between the service
// manager and this program.
func commandEnvironment() []string {
	env := []string{"HOME=/root", "LOGNAME=root", "USER=root"}
	path := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range os.Environ() {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "HOME", "LOGNAME", "USER", "NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES":
		case "PATH":
			path = e
		default:
			env = append(env, e)
		}
	}
	return append(env, path)
}

const (
	// maxLine is where an endless line of output is cut, in bytes.
	maxLine = 4096
	// maxLines is how many lines of a command's output go to the log. The
	// journal takes 10,000 messages of a unit in 30 seconds.
	maxLines = 2000
)

// lineWriter passes on whole lines, and drops what is beyond its limit: a
// command never waits for us to read.
type lineWriter struct {
	emit func(line string)
	rest []byte
	left int // lines that may still come
}

func (w *lineWriter) Write(p []byte) (int, error) {
	if w.left <= 0 {
		return len(p), nil
	}
	w.rest = append(w.rest, p...)
	for w.left > 0 {
		end := bytes.IndexByte(w.rest, '\n')
		if end < 0 && len(w.rest) < maxLine {
			return len(p), nil
		}
		if end < 0 || end > maxLine {
			w.line(string(w.rest[:maxLine]))
			w.rest = w.rest[maxLine:]
			continue
		}
		w.line(strings.TrimRight(string(w.rest[:end]), "\r"))
		w.rest = w.rest[end+1:]
	}
	return len(p), nil
}

// line passes on a line, and says so when it was the last.
func (w *lineWriter) line(text string) {
	w.emit(text)
	if w.left--; w.left == 0 {
		w.emit(fmt.Sprintf("more than %d lines of output: the rest is left out", maxLines))
	}
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 && w.left > 0 {
		w.line(string(w.rest))
	}
	w.rest = nil
}
