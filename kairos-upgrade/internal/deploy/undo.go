package deploy

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/kairos-io/toolkit/lib/kind"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// afterFailure keeps what has arrived, for the next attempt, unless there is
// no space for it, or no use.
func (t *staging) afterFailure(ctx context.Context, err error) error {
	if errors.Is(err, ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		_, free, _ := t.node.Store.View().Space()
		err = fmt.Errorf("%w (%s free)", err, terminal.Bytes(free))
		return t.spaceError(t.undo(ctx, err))
	}
	if inVain(err) {
		return t.undo(ctx, err)
	}
	return err
}

// errUseless marks errors about what has been fetched completely.
var errUseless = errors.New("")

// useless marks an error.
func useless(err error) error { return kind.Of(errUseless, err) }

// undo removes what was written in vain. After an interruption it stays, for
// the next attempt.
func (t *staging) undo(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	_, errSweep := t.node.Loader.Sweep(false)
	return errors.Join(err, errSweep, t.node.Store.Undo())
}
