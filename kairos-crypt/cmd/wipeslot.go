package cmd

import (
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// forceFlag returns the option --force of commands that volume.Guard checks.
func forceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "force", Usage: "erase the last key slot that opens it, or the last recovery key, too"}
}

func wipeSlotCommand(m Machine) *cli.Command {
	return &cli.Command{
		Name:      "wipe-slot",
		Usage:     "erase key slots: one by its number, or all of a kind",
		ArgsUsage: "DEVICE SLOT|KIND...",
		Flags:     []cli.Flag{forceFlag(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.YesFlag(), cmdline.QuietFlag(), cmdline.JSONFlag()},
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "DEVICE", "SLOT|KIND...")
			if err != nil {
				return err
			}
			s := m.begin(c)
			v, err := s.open(c, args[0])
			if err != nil {
				return err
			}
			defer s.end()
			var removed []volume.Slot
			for _, name := range args[1:] {
				found, err := v.Find(name)
				if err != nil {
					return err
				}
				removed = append(removed, found...)
			}
			if err := guard(c, v, removed...); err != nil {
				return err
			}
			for _, slot := range removed {
				if c.Bool("dry-run") {
					terminal.Fprintf(c.App.Writer, "erase %s of %s\n", slot, v.Device)
				}
			}
			if c.Bool("dry-run") {
				return nil
			}
			if err := cmdline.Confirm(c, fmt.Sprintf("Erase %d key slots of %s?", len(removed), v.Name())); err != nil {
				return err
			}
			if err := v.Remove(c.Context, removed...); err != nil {
				return err
			}
			result := report.Wiped{Device: v.Device}
			for _, slot := range removed {
				result.Removed = append(result.Removed, slot.Number)
				s.log.Info("erased " + slot.String())
			}
			if c.Bool("json") {
				return cmdline.PrintJSON(c, result)
			}
			return nil
		},
	}
}

// guard returns an error for a removal that would lock the owner out, unless --force
// was given.
func guard(c *cli.Context, v *volume.Volume, removed ...volume.Slot) error {
	err := v.Guard(removed...)
	if err == nil || c.Bool("force") {
		return nil
	}
	err = exit.WithCode(err, exit.Refused)
	if errors.Is(err, volume.ErrLastRecovery) {
		return exit.Hint(err, "enroll another with kairos-crypt enroll recovery-key %s, or add --force", v.Device)
	}
	return exit.Hint(err, "enroll another key first; to give up the data: kairos-crypt wipe %s", v.Device)
}
