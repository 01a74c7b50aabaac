// Package remains finds what a boot that failed has left behind: the end of
// its journal, and what the kernel saved as it died. Both come from a disk and
// a firmware that may be what failed: little of them is read, and what cannot
// be had is said.
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

// journalTimeout bounds how long journalctl may take: journals may be large,
// on disks that are slow.
const journalTimeout = 20 * time.Second

// maxLines is how many lines are read; checks.Tail keeps as many at most.
const maxLines = 20

// Journal returns the last lines of the journal of a boot, up to a time if one
// is given: after the verdict nothing but the shutdown follows.
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
