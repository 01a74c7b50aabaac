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

// cgroup is a control group below that of this process. Nothing leaves it by
// forking or by starting a session, so that killing it leaves nothing behind.
// It needs Delegate= in the unit; elsewhere the process group has to do.
type cgroup struct {
	path string
	dir  *os.File
}

// cgroupMount is where the unified hierarchy is mounted.
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

// remove kills what is in the group, waits until the kernel says that it is
// empty, and removes it. What cannot be removed goes with the service.
func (g *cgroup) remove() {
	defer g.dir.Close()
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0); err == nil {
		g.awaitEmpty()
	}
	_ = os.Remove(g.path)
}

// awaitEmpty waits, for the time that a kill may take, for cgroup.events to
// say "populated 0". The kernel signals each change by POLLPRI.
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
