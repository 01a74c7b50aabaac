package cmd

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"

	"github.com/kairos-io/toolkit/lib/exit"
)

// reboot asks logind to reboot. What inhibits it is respected, though root
// need not: whoever holds an inhibitor knows why now is not the time.
func reboot(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "systemctl", "--check-inhibitors=yes", "--no-ask-password", "reboot")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return exit.Hint(fmt.Errorf("systemctl reboot: %w: %s", err, bytes.TrimSpace(stderr.Bytes())),
			"systemd-inhibit --list says who holds it up; it is tried again when the timer elapses")
	}
	return nil
}
