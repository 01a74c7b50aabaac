package assess

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/exit"
)

// upgrade runs kairos-upgrade and puts what it said into the error. That there
// was nothing to do is none.
func upgrade(ctx context.Context, args ...string) error {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "kairos-upgrade", args...)
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var ended *exec.ExitError
	if err == nil || errors.As(err, &ended) && ended.ExitCode() == exit.Nothing {
		return nil
	}
	said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	return fmt.Errorf("kairos-upgrade %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, said)
}
