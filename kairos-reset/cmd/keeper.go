package cmd

import (
	"context"
	"os"

	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
)

// keeper implements factory.Keeper with the node's new recovery key.
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

// Escrow sends the key to the escrow of the node's config. An unreadable config does
// not stop a reset, which may be the cure for it.
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

// Show shows the key on the terminal or the console, but not in the output of a
// service, which the journal stores.
func (k *keeper) Show(ctx context.Context) error {
	defer k.key.Wipe()
	eyes, err := recoverykey.Audience(k.console)
	if err != nil || eyes == nil {
		return err
	}
	defer eyes.Close()
	return k.key.Show(ctx, k.runner, eyes)
}
