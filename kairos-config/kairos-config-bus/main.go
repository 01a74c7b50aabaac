// Command kairos-config-bus is the service io.kairos.Config1 on the system bus:
// io.kairos.Config1(5). It executes kairos-config for each method.
//
// It is a separate program because kairos-config is part of every initrd, where there
// is no bus, and would become a tenth larger.
package main

import (
	"cmp"
	"os"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/report"
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
		records:     report.ConfigDir,
		upgrades:    report.TransactionDir,
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
	app := cmdline.New("kairos-config-bus", "run the service "+busName+" on the system bus, until it is idle")
	app.Flags = bus.Flags()
	app.Action = func(c *cli.Context) error { return serve(c, at) }
	return app
}

func serve(c *cli.Context, at places) error {
	served, err := bus.Open(c, bus.Config{Name: busName})
	if err != nil {
		return err
	}
	s := &service{places: at, bus: served.Service, log: served.Log, asking: make(chan struct{}, maxAsking)}
	s.jobs = &bus.Transactions{Service: s.bus, Cancel: action + "cancel", Refresh: s.refresh, Log: s.log}
	s.object = s.bus.Export(busPath, s.describe())
	s.jobs.Object = s.object
	s.watchDirs(served.Changes)
	s.refresh()
	return served.Serve(c.Context, func() { s.watch(served.Changes) })
}
