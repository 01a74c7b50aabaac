package recoverykey

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"golang.org/x/sys/unix"
)

// Audience is where people see a recovery key, and its text goes no further: the
// terminal that is stderr, or for a service, whose output is kept in the journal,
// the console at a path. It is nil where there is neither.
func Audience(console string) (io.WriteCloser, error) {
	if cmdline.IsTerminal(os.Stderr) {
		return terminal{os.Stderr}, nil
	}
	if !cmdline.UnderSystemd() {
		return nil, nil
	}
	f, err := os.OpenFile(console, os.O_WRONLY|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	return f, nil
}

// terminal is stderr, which stays open.
type terminal struct{ io.Writer }

func (terminal) Close() error { return nil }
