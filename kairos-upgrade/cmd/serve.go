package cmd

import (
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/urfave/cli/v2"
)

// Names on the bus: io.kairos.Upgrade1(5).
const (
	busName = "io.kairos.Upgrade1"
	busPath = "/io/kairos/Upgrade1"
	action  = "io.kairos.upgrade1."
)

func serveCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:   "serve",
		Usage:  "run the service " + busName + " on the system bus, until it is idle",
		Flags:  bus.Flags(),
		Action: func(c *cli.Context) error { return serve(c, m) },
	}
}

func serve(c *cli.Context, m machine) error {
	served, err := bus.Open(c, bus.Config{Name: busName, Explanations: explanations})
	if err != nil {
		return err
	}
	s := &service{
		machine: m,
		where:   where{esp: m.esp, label: disk.LabelState},
		bus:     served.Service,
		log:     served.Log,
		quiet:   c.Bool("quiet"),
		out:     c.App.ErrWriter,
	}
	s.jobs = &bus.Transactions{Service: s.bus, Cancel: action + "cancel", Refresh: s.refresh, Log: s.log}
	s.object = s.bus.Export(busPath, s.describe())
	s.jobs.Object = s.object
	s.watchDirs(served.Changes)
	s.refresh()
	return served.Serve(c.Context, func() { s.watchStore(served.Changes) })
}
