package cmdline

import (
	"context"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/kairos-io/toolkit/lib/lock"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/urfave/cli/v2"
)

// waitFlag is a text for urfave/cli; lib/argv knows that it may stand alone.
type waitFlag struct{ *cli.StringFlag }

// WaitFlag is the --wait option of commands that take a lock: the command waits
// for whoever holds it. --wait=DURATION bounds that.
func WaitFlag() cli.Flag {
	return waitFlag{&cli.StringFlag{Name: lock.Option, Usage: "wait while another process holds the lock, as long as it takes or at most =`DURATION`"}}
}

// waiting says in the context of a command whether it waits for locks.
func waiting(ctx context.Context, app *cli.App, call argv.Call) context.Context {
	options := call.Command().Options
	if at := indexOf(options, lock.Option); at < 0 || options[at].Kind != argv.Wait {
		return ctx
	}
	log := logline.New(app.ErrWriter, app.Name, call.Bool("quiet"))
	w := lock.Wait{Tell: func(message string) { log.Info(message) }}
	for _, given := range call.Options {
		if given.Name == lock.Option {
			w.Asked = true
			w.Limit, _ = lock.ParseLimit(given.Value) // which lib/argv has checked
		}
	}
	return lock.With(ctx, w)
}
