package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// usage is what a command has cost.
type usage struct {
	Seconds float64 // from start to end
	CPU     float64 // seconds of processors, with its children's
	Memory  float64 // peak resident memory in bytes, of the largest process
	Written float64 // bytes that it caused to be written
	Status  int
	stdout  []byte
}

// measuring in the environment turns this program into the parent of what is
// measured. A program starts with the peak memory of the process that started
// it, before it even has memory of its own (getrusage(2)): started from here,
// where images are made, it would be charged for those.
const measuring = "KAIROS_BENCH_MEASURE"

// measure runs a command that must end with wantStatus.
func measure(t *testing.T, cmd *exec.Cmd, wantStatus int) usage {
	t.Helper()
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	defer write.Close()
	parent := exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{cmd.Path}, cmd.Args[1:]...)...)
	parent.Dir = cmd.Dir
	parent.Env = append(cmd.Environ(), measuring+"=1")
	parent.ExtraFiles = []*os.File{write}
	var stdout, stderr bytes.Buffer
	parent.Stdout, parent.Stderr = &stdout, &stderr
	if err := parent.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	var u usage
	must(t, json.NewDecoder(read).Decode(&u))
	if u.Status != wantStatus {
		t.Fatalf("%v: exit status %d\n%s", cmd.Args, u.Status, stderr.String())
	}
	u.stdout = stdout.Bytes()
	return u
}

// measureChild is main of the parent process: it runs its arguments and writes
// the usage to file descriptor 3.
func measureChild() error {
	os.Unsetenv(measuring)
	out := os.NewFile(3, "usage")
	syscall.CloseOnExec(3)
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	start := time.Now()
	err := cmd.Run()
	u := usage{Seconds: time.Since(start).Seconds()}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("measure %s: %w", os.Args[1], err)
	}
	rusage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	u.Status = cmd.ProcessState.ExitCode()
	u.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	u.Memory = float64(rusage.Maxrss) * 1024
	u.Written = float64(rusage.Oublock) * 512
	return json.NewEncoder(out).Encode(u)
}

// TestBenchMeasure: the peak is that of the program, not of this process.
func TestBenchMeasure(t *testing.T) {
	ballast := bytes.Repeat([]byte{1}, 100<<20)
	small := measure(t, exec.Command("sh", "-c", "exit 3"), 3)
	if small.Memory > 32<<20 {
		t.Errorf("a shell had %.0f bytes", small.Memory)
	}
	large := measure(t, exec.Command("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1", "status=none"), 0)
	if large.Memory < 64<<20 || large.Memory > 80<<20 {
		t.Errorf("dd with a buffer of 64 MiB had %.0f bytes", large.Memory)
	}
	if ballast[len(ballast)-1] != 1 {
		t.Error("no ballast")
	}
}
