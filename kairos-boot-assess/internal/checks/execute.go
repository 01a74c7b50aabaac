package checks

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// grace is the time between SIGTERM and SIGKILL, and the time for which output of
// remaining processes is read after a check.
const grace = 5 * time.Second

// execute runs a program in a process group and, if possible, in its own cgroup, until
// it ends. When ctx ends before, all its processes get SIGTERM and later SIGKILL.
// Remaining processes are killed in any case.
func execute(ctx context.Context, argv, env []string, stdin io.Reader, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = "/", env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return signalGroup(cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace

	if group, err := newCgroup(); err == nil {
		defer group.remove()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.dir.Fd())
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, something it started goes on
		return nil
	}
	return err
}

// signalGroup sends a signal to all processes of a group. A group without
// processes is no error.
func signalGroup(pgid int, sig syscall.Signal) error {
	if err := syscall.Kill(-pgid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
