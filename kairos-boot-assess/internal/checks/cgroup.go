package checks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroup is a control group below that of this process. No process leaves it by forking
// or with a new session, so that killing it kills all. It needs Delegate= in the unit;
// without it the process group is killed.
type cgroup struct {
	path string
	dir  *os.File
}

// cgroupMount is the mount point of the unified hierarchy.
var cgroupMount = "/sys/fs/cgroup"

func newCgroup() (*cgroup, error) {
	own, err := ownCgroup("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(filepath.Join(cgroupMount, own), "check-")
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	g := &cgroup{path, dir}
	if _, err := os.Stat(filepath.Join(path, "cgroup.kill")); err != nil { // Linux 5.14
		return nil, errors.Join(err, dir.Close(), os.Remove(path))
	}
	return g, nil
}

// ownCgroup returns the path of this process in the unified hierarchy.
func ownCgroup(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && path != "/" {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not in a cgroup of its own", file)
}

// remove kills the processes in the group, waits until it is empty, and removes it. A
// group that cannot be removed ends with the service.
func (g *cgroup) remove() {
	defer g.dir.Close()
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0); err == nil {
		g.awaitEmpty()
	}
	_ = os.Remove(g.path)
}

// awaitEmpty waits, for a limited time, until cgroup.events says "populated 0". The
// kernel signals each change by POLLPRI.
func (g *cgroup) awaitEmpty() {
	events, err := os.Open(filepath.Join(g.path, "cgroup.events"))
	if err != nil {
		return
	}
	defer events.Close()
	for {
		state, err := io.ReadAll(io.NewSectionReader(events, 0, 4096))
		if err != nil || strings.Contains(string(state), "populated 0") {
			return
		}
		fds := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		n, err := unix.Poll(fds, int(grace.Milliseconds()))
		if n == 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return
		}
	}
}
