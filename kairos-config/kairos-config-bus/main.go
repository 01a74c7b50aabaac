// Command kairos-config-bus is the service io.kairos.Config1 on the system
// bus: io.kairos.Config1(5). It runs kairos-config for what it is asked.
//
// It is a program of its own because kairos-config is part of every initrd,
// where there is no bus, and would be a tenth larger.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/inotify"
	"github.com/urfave/cli/v2"
)

// Names on the bus: io.kairos.Config1(5).
const (
	busName = "io.kairos.Config1"
	busPath = "/io/kairos/Config1"
	action  = "io.kairos.config1."
)

func main() {
	cmdline.Main(app(places{
		scratch:     cmp.Or(os.Getenv("RUNTIME_DIRECTORY"), os.TempDir()),
		generations: generation.Dir,
		records:     stage.RecordDir,
		upgrades:    "/run/kairos/upgrade",
	}))
}

// places are directories of the node.
type places struct {
	scratch     string // for configs of callers: for nobody else's eyes, on no disk
	generations string
	records     string
	upgrades    string // what kairos-upgrade(8) publishes of its transactions
}

func app(at places) *cli.App {
	app := cmdline.New("kairos-config-bus", "be the service "+busName+" on the system bus, until nobody needs it")
	app.Flags = []cli.Flag{
		&cli.DurationFlag{Name: "idle", Value: 30 * time.Second, Usage: "leave after `TIME` without calls and transactions; 0: never"},
		cmdline.QuietFlag(),
	}
	app.Action = func(c *cli.Context) error {
		if _, err := cmdline.Arguments(c); err != nil {
			return err
		}
		if c.Duration("idle") < 0 {
			return cmdline.Usagef("--idle %s: less than nothing", c.Duration("idle"))
		}
		return serve(c, at)
	}
	return app
}

func serve(c *cli.Context, at places) error {
	log := cmdline.NewLogger(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	connection, err := bus.Connect(bus.Config{Name: busName, Idle: c.Duration("idle"), Log: log})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	s := &service{places: at, bus: connection, log: log, asking: make(chan struct{}, maxAsking)}
	s.jobs = &bus.Transactions{Service: connection, Cancel: action + "cancel", Refresh: s.refresh, Log: log}
	s.object = connection.Export(busPath, s.describe())
	s.jobs.Object = s.object
	changes, err := inotify.New()
	if err != nil {
		return errors.Join(fmt.Errorf("serve: %w", err), connection.Close())
	}
	s.watchDirs(changes)
	s.refresh()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(changes)
	}()
	err = connection.Run(c.Context)
	changes.Close()
	<-watched
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
