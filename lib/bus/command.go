package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/inotify"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/urfave/cli/v2"
)

// Flags are the command-line options of a service, which Open reads.
func Flags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "idle", Value: 30 * time.Second, Usage: "exit after `TIME` without calls and transactions; 0: never"},
		cmdline.QuietFlag(),
	}
}

// Served is a service that follows changes of files.
type Served struct {
	*Service
	Changes *inotify.Watcher
	Log     *slog.Logger
}

// Open connects a service to the bus that the command line names, the system bus by
// default. The command takes no arguments.
func Open(c *cli.Context, config Config) (*Served, error) {
	if _, err := cmdline.Arguments(c); err != nil {
		return nil, err
	}
	idle := c.Duration("idle")
	if idle < 0 {
		return nil, exit.Usagef("--idle %s: must not be negative", idle)
	}
	log := logline.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	config.Idle, config.Log = idle, log
	service, err := Connect(config)
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	changes, err := inotify.New()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve: %w", err), service.Close())
	}
	return &Served{service, changes, log}, nil
}

// Serve calls Run, and runs watchers beside it until Changes or the connection is
// closed.
func (s *Served) Serve(ctx context.Context, watchers ...func()) error {
	var watching sync.WaitGroup
	for _, watch := range watchers {
		watching.Go(watch)
	}
	err := s.Run(ctx)
	s.Changes.Close()
	watching.Wait()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
