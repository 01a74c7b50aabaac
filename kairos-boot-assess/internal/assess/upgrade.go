package assess

import (
	"context"
	"errors"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
)

// upgrade runs kairos-upgrade; its error has the program's message. "Nothing to do" is
// no error.
func upgrade(ctx context.Context, args ...string) error {
	_, err := run.Runner{}.Output(ctx, append([]string{"kairos-upgrade"}, args...)...)
	if failed := (*run.Error)(nil); errors.As(err, &failed) && failed.Status == exit.Nothing {
		return nil
	}
	return err
}
