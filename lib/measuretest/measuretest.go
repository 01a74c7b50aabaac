// Package measuretest measures what commands cost, in tests and benchmarks.
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

// Usage is what a command has cost.
type Usage struct {
	Seconds float64 // from start to end
	CPU     float64 // seconds of processors, with its children's
	Memory  float64 // peak resident memory in bytes, of the largest process
	Status  int     // exit status, -1 after a signal

	Stdout, Stderr []byte
}

// measuring in the environment turns this program into the parent of what is
// measured. A program starts with the peak memory of the process that started
// it, before it even has memory of its own (getrusage(2)): started from here,
// where images are made, it would be charged for those.
const measuring = "KAIROS_MEASURE"

// Main is to be called first by TestMain of a package that calls Run. It
// returns unless this process is there to measure.
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

// Run runs a command to its end. Of cmd, it takes Path, Args, Dir and Env. An
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

// measureChild is main of the parent process: it runs its arguments and writes
// the usage to file descriptor 3.
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
