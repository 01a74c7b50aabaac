package cmd

import (
	"fmt"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func wipeCommand(m Machine) *cli.Command {
	return &cli.Command{
		Name:      "wipe",
		Usage:     "erase all key slots: the data is unreadable afterwards",
		ArgsUsage: "DEVICE",
		Flags:     []cli.Flag{cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.YesFlag(), cmdline.QuietFlag()},
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "DEVICE")
			if err != nil {
				return err
			}
			s := m.begin(c)
			v, err := s.open(c, args[0])
			if err != nil {
				return err
			}
			defer s.end()
			if len(v.Slots) == 0 {
				return exit.WithCode(fmt.Errorf("%s has no key slots", v.Device), exit.Nothing)
			}
			if c.Bool("dry-run") {
				for _, slot := range v.Slots {
					terminal.Fprintf(c.App.Writer, "erase %s of %s\n", slot, v.Device)
				}
				terminal.Fprintf(c.App.Writer, "check that the key material is erased\n")
				return nil
			}
			if err := cmdline.Confirm(c, fmt.Sprintf("Erase all %d key slots of %s? Its data is lost for ever.", len(v.Slots), v.Name())); err != nil {
				return err
			}
			if err := v.Erase(c.Context); err != nil {
				return err
			}
			s.log.Info("erased all key slots, and verified that they are erased", "volume", v.Name())
			return nil
		},
	}
}
