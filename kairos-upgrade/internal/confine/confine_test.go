package confine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The confined process is one of its own: this program again.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CONFINED"); dir != "" {
		os.Exit(confined(dir))
	}
	os.Exit(m.Run())
}

func TestProcess(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"in", "in/sub", "out"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CONFINED="+dir)
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if errors.As(err, &failed) && failed.ExitCode() == 77 {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func confined(dir string) int {
	// A thread that is there before, and is confined as well.
	begin, done := make(chan struct{}), make(chan error)
	go func() {
		<-begin
		done <- unix.Unshare(unix.CLONE_NEWUTS)
	}()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := Process([]string{in, "/nonexistent"}, unix.CAP_DAC_READ_SEARCH); err != nil {
		fmt.Println(err)
		if errors.Is(err, ErrThreads) {
			return 77
		}
		return 1
	}
	status := 0
	check := func(what string, err, want error) {
		if !errors.Is(err, want) {
			fmt.Printf("%s: %v, want %v\n", what, err, want)
			status = 1
		}
	}
	close(begin)
	check("unshare on a thread of before", <-done, unix.EPERM)
	check("mount", unix.Mount("tmpfs", in, "tmpfs", 0, ""), unix.EPERM)
	_, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
	check("open_tree", err, unix.EPERM)
	check("ptrace", unix.PtraceAttach(1), unix.EPERM)
	_, _, errno := syscall.Syscall(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0)
	check("a user namespace", errno, unix.EPERM)
	_, _, errno = syscall.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	check("clone3", errno, unix.ENOSYS)
	for _, family := range []int{unix.AF_UNIX, unix.AF_NETLINK, unix.AF_PACKET} {
		_, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		check(fmt.Sprint("a socket of family ", family), err, unix.EAFNOSUPPORT)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
		check(fmt.Sprint("a socket of family ", family), err, nil)
		unix.Close(fd)
	}
	if version, _ := landlockVersion(); version >= versionScope {
		check("a signal to another process", unix.Kill(os.Getppid(), 0), unix.EPERM)
	}

	check("write inside", os.WriteFile(filepath.Join(in, "a"), []byte("a"), 0o644), nil)
	check("move inside", os.Rename(filepath.Join(in, "a"), filepath.Join(in, "sub/b")), nil)
	if version, _ := landlockVersion(); version >= versionRefer {
		check("write outside", os.WriteFile(filepath.Join(out, "a"), []byte("a"), 0o644), unix.EACCES)
		check("move out", os.Rename(filepath.Join(in, "sub/b"), filepath.Join(out, "b")), unix.EACCES)
		check("remove outside", os.Remove(out), unix.EACCES)
	}
	_, err = os.ReadDir(out)
	check("read outside", err, nil)
	for _, line := range []string{"CapPrm:", "CapEff:", "CapInh:"} {
		if set := statusLine(line); os.Getuid() == 0 && strings.Trim(set, "0") != strings.TrimPrefix("4", map[bool]string{true: "4"}[line == "CapInh:"]) {
			fmt.Println(line, set)
			status = 1
		}
	}
	if statusLine("NoNewPrivs:") != "1" {
		fmt.Println("new privileges are possible")
		status = 1
	}
	// It still works: threads, and programs, which are confined as well.
	var threads sync.WaitGroup
	for range 20 {
		threads.Go(func() { check("a program", exec.Command("true").Run(), nil) })
	}
	threads.Wait()
	if err := exec.Command("sh", "-c", "echo >"+filepath.Join(in, "c")+" && ! unshare -U true 2>/dev/null").Run(); err != nil {
		fmt.Println("what it executes:", err)
		status = 1
	}
	return status
}

func statusLine(name string) string {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
