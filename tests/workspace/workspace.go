// Package workspace knows where the project keeps what it generates, and runs the programs of the
// tools root (see tests/setup).
package workspace

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// Top returns the absolute path of the project: the first folder, from the working directory
// upwards, that holds tests/setup.
var Top = sync.OnceValue(func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(fmt.Sprintf("find the project: %v", err))
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tests", "setup")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			panic("find the project: no tests/setup here or above")
		}
		dir = parent
	}
})

// Cache returns a path beneath .cache, the folder for what may be removed at any time.
func Cache(elem ...string) string {
	return filepath.Join(append([]string{Top(), ".cache"}, elem...)...)
}

// Tool prepares a program of the tools root. The process started is the program itself, so that it
// can be signalled; it dies with the calling process's context.
func Tool(ctx context.Context, name string, arg ...string) *exec.Cmd {
	script := filepath.Join(Top(), "tests", "tools")
	return exec.CommandContext(ctx, script, append([]string{name}, arg...)...)
}

// Run runs cmd to its end and returns what it wrote to standard output. An error carries the last
// lines of standard error.
func Run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s: %w%s", commandName(cmd), err, lastLines(stderr.String(), 20))
	}
	return stdout.String(), nil
}

// RunTool is Run of a Tool.
func RunTool(ctx context.Context, name string, arg ...string) (string, error) {
	return Run(Tool(ctx, name, arg...))
}

// Start starts cmd so that it can't outlive this process, whatever ends it, and an interrupt at the
// terminal leaves it alone. What Wait returns is sent on ended.
func Start(cmd *exec.Cmd) (ended <-chan error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return start(cmd)
}

// StartDetached is Start of a process that may outlive this one.
func StartDetached(cmd *exec.Cmd) (ended <-chan error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return start(cmd)
}

func start(cmd *exec.Cmd) (<-chan error, error) {
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the thread ends that started the process
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-started
}

func commandName(cmd *exec.Cmd) string {
	if len(cmd.Args) > 1 && filepath.Base(cmd.Args[0]) == "tools" {
		return strings.Join(cmd.Args[1:min(len(cmd.Args), 4)], " ")
	}
	return strings.Join(cmd.Args[:min(len(cmd.Args), 3)], " ")
}

func lastLines(text string, n int) string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	return "\n  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}

// Lock takes the exclusive lock of a cache entry, so that two runs never build the same thing at the
// same time, and returns the function that releases it.
func Lock(name string) (unlock func(), err error) {
	path := Cache(name + ".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}
