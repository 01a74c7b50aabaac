package cmd

import (
	"context"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
)

// reboot asks logind to reboot. What inhibits it is respected, though root
// need not: whoever holds an inhibitor knows why now is not the time.
func reboot(ctx context.Context) error {
	_, err := run.Runner{}.Output(ctx, "systemctl", "--check-inhibitors=yes", "--no-ask-password", "reboot")
	return exit.Hint(err, "systemd-inhibit --list shows who inhibits it; the staged deployment boots at the next reboot")
}
