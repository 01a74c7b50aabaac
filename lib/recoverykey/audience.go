package recoverykey

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sys/unix"
)

// Audience is where people see a recovery key, and its text goes no further: the
// terminal that is stderr, or for a service, whose output is kept in the journal,
// the console at a path. It is nil where there is neither.
func Audience(console string) (io.WriteCloser, error) {
	if terminal.Is(os.Stderr) {
		return stderr{os.Stderr}, nil
	}
	if !logline.UnderSystemd() {
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

// stderr stays open when its user closes it.
type stderr struct{ io.Writer }

func (stderr) Close() error { return nil }
