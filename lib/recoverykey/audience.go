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

// Audience returns where a recovery key can be shown to people without being stored:
// stderr if it is a terminal; for a service, whose output is stored in the journal, the
// console at a path. It returns nil where there is neither.
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

// stderr is os.Stderr, which its user cannot close.
type stderr struct{ io.Writer }

func (stderr) Close() error { return nil }
