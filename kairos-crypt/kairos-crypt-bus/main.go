// Command kairos-crypt-bus is the service io.kairos.Crypt1 on the system bus:
// io.kairos.Crypt1(5). It executes kairos-crypt for each method.
//
// It is a separate program because kairos-crypt is part of the initrd, where there is
// no bus. Secrets never pass through it: callers pass file descriptors, which
// kairos-crypt inherits.
package main

import (
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/report"
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
	cmdline.Main(app(places{dev: "/dev", unlocks: report.UnlockDir, upgrades: report.TransactionDir}))
}

// places are directories of the node.
type places struct {
	dev      string // directory of device nodes: a written volume causes an event there
	unlocks  string // directory of the results of unlocks
	upgrades string // directory of kairos-upgrade(8)'s transactions
}

func app(at places) *cli.App {
	app := cmdline.New("kairos-crypt-bus", "run the service "+busName+" on the system bus, until it is idle")
	app.Flags = bus.Flags()
	app.Action = func(c *cli.Context) error { return serve(c, at) }
	return app
}

func serve(c *cli.Context, at places) error {
	served, err := bus.Open(c, bus.Config{Name: busName, Files: true})
	if err != nil {
		return err
	}
	s := &service{places: at, bus: served.Service, log: served.Log, volumes: map[string]*volume{}}
	s.jobs = &bus.Transactions{Service: s.bus, Cancel: action + "cancel", Refresh: s.refresh, Log: s.log}
	s.object = s.bus.Export(busPath, s.describe())
	s.jobs.Object = s.object
	s.watchDirs(served.Changes)
	s.refresh()
	return served.Serve(c.Context, func() { s.watch(served.Changes) })
}
