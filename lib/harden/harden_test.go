package harden

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// The memory of a hardened process is nobody else's: what /proc says of it.
func TestHarden(t *testing.T) {
	if os.Getenv("HARDEN_TEST_CHILD") != "" {
		if err := Process(); err != nil {
			t.Fatal(err)
		}
		if dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); dumpable != 0 {
			t.Errorf("dumpable %d", dumpable)
		}
		// Go's heap must still grow under the lock.
		grown := bytes.Repeat([]byte{1}, 64<<20)
		if status, _ := os.ReadFile("/proc/self/status"); os.Geteuid() == 0 && bytes.Contains(status, []byte("VmLck:\t       0 kB")) {
			t.Errorf("nothing is locked (%d): %s", len(grown), status)
		}
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestHarden$", "-test.v")
	child.Env = append(os.Environ(), "HARDEN_TEST_CHILD=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
