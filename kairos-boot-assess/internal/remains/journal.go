// Package remains collects the traces of a failed boot: the end of its journal, and the
// log that the kernel saved when it crashed. As the disk or the firmware may be the
// cause of the failure, it reads little, and reports what is missing.
package remains

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
)

// journalTimeout is how long journalctl may take, for large journals on slow disks.
const journalTimeout = 20 * time.Second

// maxLines is how many lines are read; checks.Tail keeps as many at most.
const maxLines = 20

// Journal returns the last lines of a boot's journal, up to a time if one is given:
// only the shutdown follows the verdict.
func Journal(ctx context.Context, bootID string, until time.Time) ([]string, error) {
	id := strings.ReplaceAll(bootID, "-", "") // journalctl reads 32 digits and stops
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return nil, fmt.Errorf("%.64q is not a boot id", bootID)
	}
	argv := []string{"journalctl", "--boot=" + id, "--lines=" + strconv.Itoa(maxLines),
		"--output=short-monotonic", "--no-hostname", "--no-pager", "--quiet"}
	if !until.IsZero() { // systemd.time(7): seconds since 1970
		argv = append(argv, fmt.Sprintf("--until=@%d.%06d", until.Unix(), until.Nanosecond()/1000))
	}
	lines, err := checks.Tail(ctx, journalTimeout, argv...)
	if err == nil && len(lines) == 0 {
		err = fmt.Errorf("the journal has no lines of boot %s", bootID)
	}
	return lines, err
}
