package bench

import (
	"os/exec"
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
)

// measure runs a command that must end with wantStatus.
func measure(t *testing.T, cmd *exec.Cmd, wantStatus int) measuretest.Usage {
	t.Helper()
	u, err := measuretest.Run(cmd)
	must(t, err)
	if u.Status != wantStatus {
		t.Fatalf("%v: exit status %d\n%s", cmd.Args, u.Status, u.Stderr)
	}
	return u
}
