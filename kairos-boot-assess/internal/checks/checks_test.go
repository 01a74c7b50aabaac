package checks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// install writes a program beneath root.
func install(t *testing.T, root, file, script string, mode os.FileMode) {
	t.Helper()
	file = filepath.Join(root, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(script), mode); err != nil {
		t.Fatal(err)
	}
}

func minute(string) time.Duration { return time.Minute }

func find(t *testing.T, root string) []Check {
	t.Helper()
	found, err := Find(root, minute, []string{"PATH=" + os.Getenv("PATH"), "GREETING=hello"})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func run(t *testing.T, c Check) Result {
	t.Helper()
	r, err := Run(t.Context(), c, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// script runs one script as a check.
func script(t *testing.T, text string, timeout time.Duration) Result {
	t.Helper()
	root := t.TempDir()
	install(t, root, "etc/kairos/checks/required.d/test", "#!/bin/sh\n"+text, 0o755)
	c := find(t, root)[0]
	c.Timeout = timeout
	return run(t, c)
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{
		"usr/lib/kairos/checks/required.d/50-site",
		"usr/lib/kairos/checks/required.d/20-hidden", // by /etc
		"usr/lib/kairos/checks/required.d/30-masked", // by a link to /dev/null
		"usr/lib/kairos/checks/wanted.d/10-time",
		"usr/lib/kairos/checks/wanted.d/50-site", // another than the required one
		"usr/lib/kairos/checks/required.d/README",
		"usr/lib/kairos/checks/required.d/.hidden",
		"usr/lib/kairos/checks/required.d/60-old.dpkg-old",
		"usr/lib/kairos/checks/required.d/60-old~",
		"usr/lib/kairos/checks/required.d/sub/90-no",
		"usr/lib/kairos/checks/50-no",
		"etc/kairos/checks/required.d/20-hidden",
		"etc/greenboot/check/required.d/40-green.sh",
		"usr/lib/greenboot/check/wanted.d/41-green.sh",
		"usr/lib/greenboot/check/wanted.d/notes.txt",
	} {
		install(t, root, file, "", 0o755)
	}
	if err := os.Symlink("/dev/null", filepath.Join(root, "etc/kairos/checks/required.d/30-masked")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range find(t, root) {
		got = append(got, fmt.Sprint(c.Source, " ", c.Required))
	}
	want := []string{
		"/usr/lib/kairos/checks/wanted.d/10-time false",
		"/etc/kairos/checks/required.d/20-hidden true",
		"/etc/greenboot/check/required.d/40-green.sh true",
		"/usr/lib/greenboot/check/wanted.d/41-green.sh false",
		"/usr/lib/kairos/checks/required.d/50-site true",
		"/usr/lib/kairos/checks/wanted.d/50-site false",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found\n got %q\nwant %q", got, want)
	}
	if found := find(t, t.TempDir()); len(found) != 0 {
		t.Errorf("found in an empty system: %v", found)
	}
}

func TestResults(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   string
		state  State
	}{
		"passes":            {"echo fine", "required check test passed", Passed},
		"silent":            {"exit 3", "required check test failed: exit status 3", Failed},
		"says why":          {"echo looking; echo disk is gone >&2; echo bye; exit 1", "required check test failed: exit status 1: disk is gone", Failed},
		"says it on stdout": {"echo disk is gone; exit 1", "required check test failed: exit status 1: disk is gone", Failed},
		"killed":            {"kill -9 $$", "required check test failed: signal: killed", Failed},
		"control chars":     {`printf 'a\033[31mb\a\tc\200d' >&2; exit 1`, "required check test failed: exit status 1: a[31mb cd", Failed},
		"environment":       {`echo "$GREETING $HOME" $# $(pwd); exit 1`, "required check test failed: exit status 1: hello  0 /", Failed},
		"reads stdin":       {"cat; echo done >&2; exit 1", "required check test failed: exit status 1: done", Failed},
	} {
		t.Run(name, func(t *testing.T) {
			r := script(t, test.script, time.Minute)
			if r.String() != test.want || r.State != test.state {
				t.Errorf("\n got %s: %s\nwant %s: %s", r.State, r, test.state, test.want)
			}
		})
	}
}

func TestWhatCannotRunFails(t *testing.T) {
	root := t.TempDir()
	install(t, root, "etc/kairos/checks/required.d/1-no-x", "#!/bin/sh\n", 0o644)
	install(t, root, "etc/kairos/checks/required.d/2-no-interpreter", "#!/nowhere/sh\n", 0o755)
	install(t, root, "etc/greenboot/check/required.d/3-no-x.sh", "exit 4\n", 0o644) // bash runs it
	if err := os.Symlink("nowhere", filepath.Join(root, "etc/kairos/checks/required.d/4-dangling")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "etc/kairos/checks/required.d/5-fifo"), 0o755); err != nil {
		t.Fatal(err)
	}
	wants := []string{"not executable", "no such file or directory", "exit status 4", "no such file or directory", "not a regular file"}
	for i, c := range find(t, root) {
		if r := run(t, c); r.State != Failed || !strings.HasSuffix(r.Detail, wants[i]) {
			t.Errorf("%s: %s: %q, want %q", c.Name, r.State, r.Detail, wants[i])
		}
	}
}

// alive returns those of the processes whose numbers are in a file that still
// run after the moment that a kill may take. A killed process whose parent has
// not waited for it is not alive.
func alive(t *testing.T, file string) (pids []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for pid := range strings.FieldsSeq(string(data)) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(n, 0)
		if err != nil {
			continue
		}
		exited, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 2000)
		unix.Close(fd)
		if exited == 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestHangingCheckIsKilledWithItsChildren(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time between SIGTERM and SIGKILL")
	}
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	begin := time.Now()
	r := script(t, `
trap '' TERM
echo waiting for the disk >&2
for i in 1 2 3; do (trap '' TERM; while :; do sleep 1000; done) & echo $! >> `+pids+`; done
echo $$ >> `+pids+`
while :; do sleep 1000; done
`, 300*time.Millisecond)
	if r.State != TimedOut || r.String() != "required check test timed out after 300ms: waiting for the disk" {
		t.Errorf("%s: %s", r.State, r)
	}
	if took := time.Since(begin); took > grace+5*time.Second {
		t.Errorf("took %s", took)
	}
	if left := alive(t, pids); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

func TestCheckThatEndsOnSIGTERMIsNotKilled(t *testing.T) {
	begin := time.Now()
	r := script(t, "trap 'echo stopped >&2; exit 0' TERM; sleep 1000 & wait", 100*time.Millisecond)
	if r.State != TimedOut || r.Message != "stopped" || time.Since(begin) > grace {
		t.Errorf("%s after %s: %s", r.State, time.Since(begin), r)
	}
}

func TestProcessLeftBehindIsKilled(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	r := script(t, "sleep 1000 >/dev/null 2>&1 & echo $! > "+pids+"; echo fine", time.Minute)
	if !r.OK() {
		t.Errorf("%s", r)
	}
	if left := alive(t, pids); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

func TestProcessLeftBehindDoesNotHoldTheBootUp(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time for which output is awaited")
	}
	t.Parallel()
	begin := time.Now()
	if r := script(t, "sleep 1000 & echo fine", time.Minute); !r.OK() { // it keeps stdout
		t.Errorf("%s", r)
	}
	if took := time.Since(begin); took > 2*grace {
		t.Errorf("took %s", took)
	}
}

func TestFloodIsBounded(t *testing.T) {
	said := 0
	root := t.TempDir()
	install(t, root, "etc/kairos/checks/required.d/flood",
		"#!/bin/sh\ni=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; head -c 1000000 /dev/zero | tr '\\0' x; exit 1\n", 0o755)
	r, err := Run(t.Context(), find(t, root)[0], func(string) { said++ })
	if err != nil {
		t.Fatal(err)
	}
	if said != maxSaid+1 {
		t.Errorf("%d lines logged, want %d", said, maxSaid+1)
	}
	if len(r.Output) != maxLines || r.Output[0] != "line 4981" || len(r.Message) != maxWidth {
		t.Errorf("kept %d lines, the last of %d bytes: %q", len(r.Output), len(r.Message), r.Output[0])
	}
}

func TestInterruptionIsNoResult(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	root := t.TempDir()
	install(t, root, "etc/kairos/checks/required.d/slow", "#!/bin/sh\necho ready; sleep 1000\n", 0o755)
	_, err := Run(ctx, find(t, root)[0], func(string) { cancel() })
	if err == nil {
		t.Error("no error")
	}
}

// TestCgroup needs root and a cgroup2 file system, as the service has them: a
// child that starts a session of its own is killed all the same.
func TestCgroup(t *testing.T) {
	group := ownTestCgroup(t)
	cgroupMount = group.mount
	t.Cleanup(func() { cgroupMount = "/sys/fs/cgroup" })
	pids := filepath.Join(t.TempDir(), "pids")
	r := script(t, "setsid sh -c 'trap \"\" TERM HUP; echo $$ > "+pids+"; exec sleep 1000' >/dev/null 2>&1 & while [ ! -s "+pids+" ]; do :; done", time.Minute)
	if !r.OK() {
		t.Errorf("%s", r)
	}
	if left := alive(t, pids); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if dirs, _ := filepath.Glob(filepath.Join(group.path, "check-*")); len(dirs) > 0 {
		t.Errorf("cgroups left: %v", dirs)
	}
}

type testCgroup struct{ mount, path string }

// ownTestCgroup moves this process into a cgroup of its own for the test.
func ownTestCgroup(t *testing.T) testCgroup {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(mount + "/cgroup.procs"); err != nil {
			continue
		}
		before, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		old := "/"
		for line := range strings.Lines(string(before)) {
			if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				old = p
			}
		}
		path := filepath.Join(mount, fmt.Sprintf("kairos-test-%d", os.Getpid()))
		pid := []byte(strconv.Itoa(os.Getpid()))
		if os.Mkdir(path, 0o755) != nil {
			break
		}
		t.Cleanup(func() {
			os.WriteFile(filepath.Join(mount, old, "cgroup.procs"), pid, 0)
			os.Remove(path)
		})
		if os.WriteFile(path+"/cgroup.procs", pid, 0) != nil {
			break
		}
		return testCgroup{mount, path}
	}
	t.Skip("needs root and a cgroup2 file system")
	return testCgroup{}
}
