package cmd

import (
	"context"
	"os"

	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
)

// keeper keeps the node's new recovery key, until it is shown.
type keeper struct {
	console string
	runner  run.Runner
	report  *progress.Reporter
	key     *recoverykey.Key
}

func (k *keeper) New(ctx context.Context) (err error) {
	k.key.Wipe()
	k.key, err = recoverykey.New(ctx, k.runner)
	return err
}

func (k *keeper) Run(ctx context.Context, argv ...string) ([]byte, error) {
	return k.key.Run(ctx, k.runner, argv...)
}

// Escrow does what the node's config says. An unreadable config keeps no node from
// being reset: it may be what is wrong with it.
func (k *keeper) Escrow(ctx context.Context, volumes []recoverykey.Volume) error {
	config, err := recoverykey.Load(ctx, k.runner, nil)
	if err != nil && ctx.Err() == nil {
		k.report.Warn("cannot read the escrow of the recovery key: %v", err)
		return nil
	}
	if err != nil || !config.Escrow.Set() {
		return err
	}
	hostname, _ := os.Hostname()
	err = config.Escrow.Give(ctx, k.runner, k.key, hostname, volumes)
	if err != nil && !config.Escrow.Required && ctx.Err() == nil {
		k.report.Warn("%v: keep it", err)
		return nil
	}
	return err
}

// Show shows the key on the terminal or the console. The output of a service is
// kept in the journal, which is no place for it.
func (k *keeper) Show(ctx context.Context) error {
	defer k.key.Wipe()
	eyes, err := recoverykey.Audience(k.console)
	if err != nil || eyes == nil {
		return err
	}
	defer eyes.Close()
	return k.key.Show(ctx, k.runner, eyes)
}
