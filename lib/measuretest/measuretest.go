// Package measuretest measures the resources that commands use, for tests and
// benchmarks.
package measuretest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Usage is the resources that a command used.
type Usage struct {
	Seconds float64 // wall-clock time
	CPU     float64 // seconds of processor time, with children
	Memory  float64 // peak resident memory in bytes, of the largest process
	Status  int     // exit status, -1 after a signal

	Stdout, Stderr []byte
}

// measuring is the environment variable that makes this program the parent of the
// measured process. A new process inherits the peak memory of its parent
// (getrusage(2)): a test that builds images would distort the result.
const measuring = "KAIROS_MEASURE"

// Main must be called first in TestMain of a package that calls Run. It returns unless
// this process is the parent of a measured process.
func Main() {
	if os.Getenv(measuring) != "1" {
		return
	}
	if err := measureChild(); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Run runs a command and returns its usage. Of cmd, it uses Path, Args, Dir and Env. An
// exit status other than 0 is no error.
func Run(cmd *exec.Cmd) (u Usage, err error) {
	if cmd.Err != nil {
		return u, cmd.Err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return u, err
	}
	defer read.Close()
	defer write.Close()
	parent := exec.Command("/proc/self/exe", append([]string{cmd.Path}, cmd.Args...)...)
	parent.Dir = cmd.Dir
	parent.Env = append(cmd.Environ(), measuring+"=1")
	parent.ExtraFiles = []*os.File{write}
	var stdout, stderr bytes.Buffer
	parent.Stdout, parent.Stderr = &stdout, &stderr
	if err := parent.Run(); err != nil {
		return u, fmt.Errorf("measure %s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	if err := json.NewDecoder(read).Decode(&u); err != nil {
		return u, fmt.Errorf("measure %s: %w", strings.Join(cmd.Args, " "), err)
	}
	u.Stdout, u.Stderr = stdout.Bytes(), stderr.Bytes()
	return u, nil
}

// measureChild is main of the parent process: it runs its arguments as a command and
// writes the usage to file descriptor 3.
func measureChild() error {
	os.Unsetenv(measuring)
	out := os.NewFile(3, "usage")
	syscall.CloseOnExec(3)
	cmd := &exec.Cmd{Path: os.Args[1], Args: os.Args[2:], Stdout: os.Stdout, Stderr: os.Stderr}
	start := time.Now()
	err := cmd.Run()
	u := Usage{Seconds: time.Since(start).Seconds()}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return err
	}
	rusage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	u.Status = cmd.ProcessState.ExitCode()
	u.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	u.Memory = float64(rusage.Maxrss) * 1024
	return json.NewEncoder(out).Encode(u)
}
