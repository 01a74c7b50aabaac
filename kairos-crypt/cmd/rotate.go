package cmd

import (
	"context"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func rotateCommand(m Machine) *cli.Command {
	return &cli.Command{
		Name:      "rotate",
		Usage:     "replace a key slot: add a new one of its kind, test it, then erase the old one",
		ArgsUsage: "DEVICE SLOT|KIND",
		Flags: []cli.Flag{
			keyFileFlag(),
			&cli.StringFlag{Name: "new-key-file", Usage: "take a new passphrase from `FILE` instead of asking"},
			&cli.StringFlag{Name: "recovery-key-file", Usage: "take the new recovery key from `FILE`, - for stdin, instead of making one"},
			&cli.StringFlag{Name: "pin-file", Usage: "take the PIN of a TPM's new slot from `FILE` instead of asking"},
			&cli.StringFlag{Name: "thumbprint", Usage: "`THP` of a tang server's signing key"},
			saveRecoveryKeyFlag(), noAskFlag(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.QuietFlag(), cmdline.JSONFlag(),
		},
		Action: func(c *cli.Context) error { return rotate(c, m) },
	}
}

func rotate(c *cli.Context, m Machine) error {
	args, err := cmdline.Arguments(c, "DEVICE", "SLOT|KIND")
	if err != nil {
		return err
	}
	if c.String("recovery-key-file") == "-" && c.String("key-file") == "-" {
		return exit.Usagef("--key-file and --recovery-key-file can't both be stdin")
	}
	s := m.begin(c)
	v, err := s.open(c, args[0])
	if err != nil {
		return err
	}
	defer s.end()
	found, err := v.Find(args[1])
	if err != nil {
		return err
	}
	if len(found) > 1 {
		return exit.Hint(exit.Usagef("%s has %d slots of kind %s", v.Device, len(found), args[1]), "name one by its number: %v", found)
	}
	old := found[0]
	e, err := s.renewal(c, old)
	if err != nil {
		return explain(err)
	}
	if c.Bool("dry-run") {
		terminal.Fprintf(c.App.Writer, "add a key slot to %s: %s\nprove that it opens\nerase %s\n", v.Device, e.describe, old)
		return nil
	}
	_, key, err := s.key(c, v)
	if err != nil {
		return err
	}
	defer key.Wipe()
	slot, made, err := s.add(c.Context, v, key, e)
	if err != nil {
		return err
	}
	defer made.secret.Wipe()
	// Shown before the old one goes: at no moment is there none that opens.
	if err := s.shown(c, v, slot, made, report.Enrolled{Device: v.Device, Slot: slot, Kind: e.kind, Removed: &old.Number}); err != nil {
		return err
	}
	if err := v.Remove(c.Context, old); err != nil {
		return err
	}
	s.log.Info("erased " + old.String())
	return nil
}

// renewal returns the enrollment of a new key of the same kind as a slot's.
func (s *session) renewal(c *cli.Context, old volume.Slot) (*enrollment, error) {
	switch {
	case old.Bad != nil:
		return nil, fmt.Errorf("%s: %w", old, old.Bad)
	case old.Kind == volume.Recovery:
		return recoveryEnroller(c, s)
	case old.Kind == volume.Passphrase:
		return passphraseEnroller(c, s)
	case old.Kind == volume.Tang && old.Clevis.Pin == "tang" && c.String("thumbprint") != "":
		return s.tang(old.Clevis.URL, c.String("thumbprint")), nil
	case old.Kind == volume.Tang:
		return nil, exit.Hint(exit.Usagef("rotate %s: --thumbprint is needed", old), "tang-show-keys prints it on the server")
	case old.Kind == volume.TPM2 && old.TPM2.PCRLock:
		return nil, fmt.Errorf("%s is bound to systemd-pcrlock, which is not supported", old)
	case old.Kind == volume.TPM2:
		if err := s.ways.TPM.Present(); err != nil {
			return nil, err
		}
		file := c.String("pin-file")
		policy := &luks.TPM2{PCRs: old.TPM2.PCRs, Bank: old.TPM2.Bank, PublicKey: old.TPM2.PublicKey, PublicPCRs: old.TPM2.PublicPCRs, PIN: old.TPM2.PIN}
		return s.sealed(policy, true, old.TPM2.SRK == nil, func(ctx context.Context) (*secret.Memory, error) { return s.typedOr(ctx, file, "PIN") }), nil
	}
	return nil, fmt.Errorf("%s: its kind of key is unknown", old)
}
