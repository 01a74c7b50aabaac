package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func encryptCommand(m Machine) *cli.Command {
	return &cli.Command{
		Name:      "encrypt",
		Usage:     "encrypt an ext4 partition in place, or continue an interrupted encryption",
		ArgsUsage: "DEVICE",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "label", Usage: "give the volume the label `TEXT`"},
			&cli.StringSliceFlag{Name: "enroll", Usage: "add a key slot of `KIND` beside the recovery key: tpm2 (default), passphrase, tang or none (repeatable)"},
			&cli.StringFlag{Name: "new-key-file", Usage: "take the passphrase from `FILE` instead of asking, - for stdin"},
			keyFileFlag(), saveRecoveryKeyFlag(), noAskFlag(),
		}, tpm2Flags(), tangFlags(), []cli.Flag{cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.YesFlag(), cmdline.QuietFlag(), cmdline.JSONFlag()}),
		Action: func(c *cli.Context) error { return encrypt(c, m) },
	}
}

func encrypt(c *cli.Context, m Machine) error {
	args, err := cmdline.Arguments(c, "DEVICE")
	if err != nil {
		return err
	}
	if err := checkLabel(c.String("label")); err != nil {
		return err
	}
	s := m.begin(c)
	enrollments, err := s.chosen(c)
	if err != nil {
		return explain(err)
	}
	device, err := s.device(args[0])
	if err != nil {
		return err
	}
	if err := s.lock(c, device); err != nil {
		return err
	}
	defer s.end()
	v, err := volume.Open(device)
	begun := err == nil
	switch {
	case begun && !needsEncryption(v):
		return exit.WithCode(fmt.Errorf("%s is encrypted", device), exit.Nothing)
	case !begun && !errors.Is(err, luks.ErrNotLUKS2):
		return err
	case c.Bool("dry-run"):
		s.planEncrypt(c, device, begun, enrollments)
		return nil
	}
	var recovery *secret.Memory
	if begun {
		recovery, err = s.resumeKey(c, v)
	} else {
		recovery, err = s.beginEncrypt(c, device)
	}
	if err != nil {
		return err
	}
	defer recovery.Wipe()
	if err := v.Reload(); err != nil {
		return err
	}
	return s.encrypt(c, v, recovery, enrollments)
}

// needsEncryption reports whether an encryption in place is unfinished: data is not
// encrypted yet, or the first key has no token yet.
func needsEncryption(v *volume.Volume) bool {
	return v.Header.Metadata.Conversion() || len(v.Slots) == 1 && v.Slots[0].Kind == volume.Orphan
}

func (s *session) planEncrypt(c *cli.Context, device string, begun bool, enrollments []*enrollment) {
	w := c.App.Writer
	if !begun {
		terminal.Fprintf(w, "check the file system on %s, and make it smaller by %d MiB\n", device, cryptsetup.EncryptRoom>>20)
		terminal.Fprintf(w, "write a header with a recovery key, and show the key\n")
	}
	terminal.Fprintf(w, "encrypt the data of %s in place\n", device)
	for _, e := range enrollments {
		terminal.Fprintf(w, "add a key slot: %s\n", e.describe)
	}
}

// beginEncrypt makes space for the header and writes it. It shows the recovery key
// before that, since after a power cut only that key continues the encryption.
func (s *session) beginEncrypt(c *cli.Context, device string) (*secret.Memory, error) {
	if err := cmdline.Confirm(c, fmt.Sprintf("Encrypt %s in place? It must not be in use. Make a backup first.", device)); err != nil {
		return nil, err
	}
	sdnotify.Status("Making room on %s", device)
	if err := volume.MakeRoom(c.Context, device, cryptsetup.EncryptRoom); err != nil {
		return nil, err
	}
	e, err := recoveryEnroller(c, s)
	if err != nil {
		return nil, err
	}
	recovery, err := e.make(c.Context)
	if err != nil {
		return nil, err
	}
	if err := s.show(c, recovery, report.Enrolled{Device: device, Kind: volume.Recovery}); err != nil {
		recovery.secret.Wipe()
		return nil, err
	}
	if err := cryptsetup.BeginEncrypt(c.Context, device, recovery.secret.Bytes(), recovery.kdf, c.String("label")); err != nil {
		recovery.secret.Wipe()
		return nil, err
	}
	return recovery.secret, nil
}

// resumeKey gets the recovery key of an interrupted encryption.
func (s *session) resumeKey(c *cli.Context, v *volume.Volume) (*secret.Memory, error) {
	var typed *secret.Memory
	var err error
	if name := c.String("key-file"); name != "" {
		typed, err = readSecret(name)
	} else {
		typed, err = s.ask(c.Context, fmt.Sprintf("The encryption of %s was interrupted. Recovery key:", v.Name()))
	}
	if err != nil {
		return nil, explain(err)
	}
	defer typed.Wipe()
	key, err := secret.ParseRecoveryKey(typed.Bytes())
	if err != nil {
		return nil, err
	}
	recovery, err := secret.Take(key)
	if err != nil {
		return nil, err
	}
	if err := cryptsetup.Test(c.Context, v.Device, -1, recovery.Bytes()); err != nil {
		recovery.Wipe()
		return nil, fmt.Errorf("%s: %w", v.Device, err)
	}
	return recovery, nil
}

// encrypt does the remaining steps, which the header shows: the data, the recovery
// key's token, the other key slots.
func (s *session) encrypt(c *cli.Context, v *volume.Volume, recovery *secret.Memory, enrollments []*enrollment) error {
	if v.Header.Metadata.Conversion() {
		sdnotify.Status("Encrypting %s in place", v.Name())
		s.log.Info("encrypting " + v.Device + " in place; after an interruption the same command continues")
		if err := s.convert(c.Context, v, recovery); err != nil {
			return exit.Hint(err, "kairos-crypt encrypt %s continues", v.Device)
		}
		if err := v.Reload(); err != nil {
			return err
		}
	}
	if len(v.Slots) != 1 || v.Header.Metadata.Conversion() {
		return fmt.Errorf("%s: not an interrupted encryption in place: %d key slots", v.Device, len(v.Slots))
	}
	if err := cryptsetup.ImportToken(c.Context, v.Device, 0, luks.Recovery(v.Slots[0].Number)); err != nil {
		return err
	}
	s.log.Info("encrypted " + v.Device)
	if err := v.Reload(); err != nil {
		return err
	}
	for _, e := range enrollments {
		_, made, err := s.add(c.Context, v, recovery, e)
		if err != nil {
			return exit.Hint(fmt.Errorf("%s is encrypted, without a key slot of kind %s: %w", v.Device, e.kind, err), "kairos-crypt enroll adds one")
		}
		made.secret.Wipe()
	}
	return nil
}

// convert encrypts the rest of the data.
func (s *session) convert(ctx context.Context, v *volume.Volume, recovery *secret.Memory) error {
	if err := cryptsetup.Repair(ctx, v.Device, recovery.Bytes()); err != nil {
		return err
	}
	if err := v.Reload(); err != nil || !v.Header.Metadata.Conversion() {
		return err
	}
	err := v.Finish()
	if errors.Is(err, luks.ErrUnencrypted) {
		return cryptsetup.ResumeEncrypt(ctx, v.Device, recovery.Bytes())
	}
	return err
}
