// Command kairos-crypt-bus is the service io.kairos.Crypt1 on the system bus:
// io.kairos.Crypt1(5). It runs kairos-crypt for what it is asked.
//
// It is a program of its own because kairos-crypt is part of the initrd, where
// there is no bus. Secrets never pass through it: callers hand in file
// descriptors, which kairos-crypt inherits.
package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/report"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/inotify"
	"github.com/urfave/cli/v2"
)

// Names on the bus: io.kairos.Crypt1(5).
const (
	busName         = "io.kairos.Crypt1"
	busPath         = "/io/kairos/Crypt1"
	volumePath      = busPath + "/Volume/"
	volumeInterface = busName + ".Volume"
	action          = "io.kairos.crypt1."
)

func main() {
	cmdline.Main(app(places{dev: "/dev", unlocks: report.UnlockDir, upgrades: "/run/kairos/upgrade"}))
}

// places are directories of the node.
type places struct {
	dev      string // where a written volume shows
	unlocks  string // how unlocks ended
	upgrades string // what kairos-upgrade(8) publishes of its transactions
}

func app(at places) *cli.App {
	app := cmdline.New("kairos-crypt-bus", "be the service "+busName+" on the system bus, until nobody needs it")
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
	s := &service{places: at, bus: connection, log: log, volumes: map[string]*volume{}}
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
