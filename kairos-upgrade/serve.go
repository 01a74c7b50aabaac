package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/inotify"
	"github.com/urfave/cli/v2"
)

// Names on the bus: io.kairos.Upgrade1(5).
const (
	busName              = "io.kairos.Upgrade1"
	busPath              = "/io/kairos/Upgrade1"
	transactionPath      = busPath + "/Transaction/"
	transactionInterface = busName + ".Transaction"
	action               = "io.kairos.upgrade1."
)

func serveCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "be the service " + busName + " on the system bus, until nobody needs it",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "idle", Value: 30 * time.Second, Usage: "leave after `TIME` without calls and transactions; 0: never"},
			cmdline.QuietFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			if c.Duration("idle") < 0 {
				return cmdline.Usagef("--idle %s: less than nothing", c.Duration("idle"))
			}
			return serve(c, m)
		},
	}
}

func serve(c *cli.Context, m machine) error {
	log := cmdline.NewLogger(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	connection, err := bus.Connect(bus.Config{Name: busName, Idle: c.Duration("idle"), Log: log})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	s := &service{
		machine: m,
		where:   where{esp: m.esp, label: disk.LabelState},
		bus:     connection,
		log:     log,
		quiet:   c.Bool("quiet"),
		out:     c.App.ErrWriter,
		known:   map[string]bool{},
	}
	s.object = connection.Export(busPath, s.describe())
	changes, err := inotify.New()
	if err != nil {
		return errors.Join(fmt.Errorf("serve: %w", err), connection.Close())
	}
	s.watchDirs(changes)
	s.refresh()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchStore(changes)
	}()
	err = connection.Run(c.Context)
	changes.Close()
	<-watched
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
