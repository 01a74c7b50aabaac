package cmd

import (
	"context"
	"regexp"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/way"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func unlockCommand(m Machine) *cli.Command {
	return &cli.Command{
		Name:      "unlock",
		Usage:     "open a volume as /dev/mapper/NAME (default: its label)",
		ArgsUsage: "DEVICE [NAME]",
		Flags: []cli.Flag{
			keyFileFlag(),
			&cli.BoolFlag{Name: "check", Usage: "find a key that opens the volume, but do not map it"},
			noAskFlag(), cmdline.DryRunFlag(), cmdline.QuietFlag(), cmdline.JSONFlag(),
		},
		Action: func(c *cli.Context) error { return unlock(c, m) },
	}
}

func unlock(c *cli.Context, m Machine) error {
	args, err := cmdline.Arguments(c, "DEVICE", "[NAME]")
	if err != nil {
		return err
	}
	s := m.begin(c)
	v, err := s.find(args[0])
	if err != nil {
		return err
	}
	name := v.Header.Label
	if len(args) > 1 {
		name = args[1]
	}
	if name == "" && !c.Bool("check") {
		return exit.Usagef("%s has no label: missing argument NAME", v.Device)
	}
	if name != "" {
		if err := checkName(name); err != nil {
			return err
		}
	}
	if _, err := s.Disks.Vars.BootCountPath(); err == nil {
		s.ways.Patience = s.config.Patience
	}
	if c.Bool("dry-run") {
		for _, slot := range way.Order(v, s.config.Kinds...) {
			terminal.Fprintf(c.App.Writer, "try %s\n", slot)
		}
		terminal.Fprintf(c.App.Writer, "open %s as /dev/mapper/%s\n", v.Device, name)
		return nil
	}
	slot, err := s.openWith(c, v, name)
	if !c.Bool("check") {
		s.keep(v, name, slot, err)
	}
	if err != nil || !c.Bool("json") {
		return err
	}
	return cmdline.PrintJSON(c, report.Opened{Device: v.Device, Slot: slot.Number, Kind: slot.Kind})
}

// keep stores the result of the unlock for other programs.
func (s *session) keep(v *volume.Volume, name string, slot volume.Slot, err error) {
	end := report.Unlock{UUID: v.Header.UUID, Name: name, Time: time.Now().UTC(), Slot: slot.Number, Kind: slot.Kind}
	if err != nil {
		end.Slot, end.Kind, end.Error = -1, "", exit.Message(err)
		end.OfDeployment = way.OfDeployment(err)
	}
	if err := end.Write(s.Unlocks, v.Device); err != nil {
		s.log.Warn("cannot record the unlock: " + exit.Message(err))
	}
}

// openWith maps a volume, or with --check only tests that it opens, and returns the
// slot that opened.
func (s *session) openWith(c *cli.Context, v *volume.Volume, name string) (volume.Slot, error) {
	sdnotify.Status("Unlocking %s", v.Name())
	if c.Bool("check") {
		slot, key, err := s.key(c, v, s.config.Kinds...)
		key.Wipe()
		if err == nil {
			s.log.Info(slot.String() + " opens " + v.Name())
		}
		return slot, err
	}
	m, err := s.measuring()
	if err != nil {
		return volume.Slot{}, err
	}
	defer m.wipe()
	s.ways.Prove = func(ctx context.Context, v *volume.Volume, slot int, key []byte) error {
		return m.open(ctx, v, name, slot, key)
	}
	slot, key, err := s.key(c, v, s.config.Kinds...)
	if err != nil {
		return slot, err
	}
	defer key.Wipe()
	s.log.Info(slot.String()+" opened "+v.Name(), "as", "/dev/mapper/"+name)
	if err := m.measure(c.Context, v, name, slot.Number, key); err != nil {
		// The data is open, and the machine goes on: what is bound to PCR 15
		// stays closed.
		s.log.Warn("the volume key is not measured: " + exit.Message(err))
	}
	return slot, nil
}

// mapperName matches names that neither device mapper nor udev escapes.
var mapperName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,126}$`)

func checkName(name string) error {
	if !mapperName.MatchString(name) || name == "control" {
		return exit.Usagef("%q can't be the name of a mapped device", name)
	}
	return nil
}
