package measuretest

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// TestMemory: the peak is that of the program, not of this process.
func TestMemory(t *testing.T) {
	ballast := bytes.Repeat([]byte{1}, 100<<20)
	small := run(t, exec.Command("sh", "-c", "echo out; echo err >&2; exit 3"))
	if small.Status != 3 || string(small.Stdout) != "out\n" || string(small.Stderr) != "err\n" {
		t.Errorf("%+v", small)
	}
	if small.Memory > 32<<20 {
		t.Errorf("a shell had %.0f bytes", small.Memory)
	}
	large := run(t, exec.Command("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1", "status=none"))
	if large.Status != 0 || large.Memory < 64<<20 || large.Memory > 80<<20 {
		t.Errorf("dd with a buffer of 64 MiB had %.0f bytes", large.Memory)
	}
	if ballast[len(ballast)-1] != 1 {
		t.Error("no ballast")
	}
}

func TestNoProgram(t *testing.T) {
	if _, err := Run(exec.Command("/no/such/program")); err == nil {
		t.Error("no error")
	}
}

func run(t *testing.T, cmd *exec.Cmd) Usage {
	t.Helper()
	u, err := Run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
