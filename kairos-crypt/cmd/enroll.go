package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func enrollCommand(m Machine) *cli.Command {
	sub := func(name, usage string, of enroller, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "DEVICE",
			Flags:  append(flags, keyFileFlag(), noAskFlag(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.QuietFlag(), cmdline.JSONFlag()),
			Action: func(c *cli.Context) error { return enroll(c, m, of) },
		}
	}
	return &cli.Command{
		Name:  "enroll",
		Usage: "add a key slot",
		Subcommands: []*cli.Command{
			sub("tpm2", "a key that the TPM releases in the state of the machine to which it is bound", tpm2Enroller, tpm2Flags()...),
			sub("recovery-key", "a random key, shown once, to write down", recoveryEnroller, saveRecoveryKeyFlag()),
			sub("passphrase", "a passphrase that a person types", passphraseEnroller,
				&cli.StringFlag{Name: "new-key-file", Usage: "take the passphrase from `FILE` instead of asking, - for stdin"}),
			sub("tang", "a key that opens while a tang server answers", tangEnroller, tangFlags()...),
		},
	}
}

// enrollment is a key that will be added: describe describes it, make creates it.
type enrollment struct {
	kind     volume.Kind
	describe string
	make     func(context.Context) (*newKey, error)
}

// enroller reads the options of a command about the key to enroll.
type enroller func(*cli.Context, *session) (*enrollment, error)

// newKey is the key and the token of a new key slot.
type newKey struct {
	secret *secret.Memory
	kdf    cryptsetup.KDF
	token  func(slot int) (json.RawMessage, error) // nil for none
	shown  bool                                    // a person has to keep the key
}

func enroll(c *cli.Context, m Machine, of enroller) error {
	args, err := cmdline.Arguments(c, "DEVICE")
	if err != nil {
		return err
	}
	s := m.begin(c)
	e, err := of(c, s)
	if err != nil {
		return explain(err)
	}
	v, err := s.open(c, args[0])
	if err != nil {
		return err
	}
	defer s.end()
	if c.Bool("dry-run") {
		terminal.Fprintf(c.App.Writer, "add a key slot to %s: %s\n", v.Device, e.describe)
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
	return s.shown(c, v, slot, made, report.Enrolled{Device: v.Device, Slot: slot, Kind: e.kind})
}

// add creates a key and fills a key slot with it. The caller wipes the key.
func (s *session) add(ctx context.Context, v *volume.Volume, key *secret.Memory, e *enrollment) (int, *newKey, error) {
	s.log.Info(e.describe)
	made, err := e.make(ctx)
	if err != nil {
		return 0, nil, explain(err)
	}
	slot, err := v.Add(ctx, volume.Enrollment{Key: key.Bytes(), New: made.secret.Bytes(), KDF: made.kdf, Token: made.token})
	if err != nil {
		made.secret.Wipe()
		return 0, nil, err
	}
	s.log.Info(fmt.Sprintf("added slot %d (%s) to %s, and tested it", slot, e.kind, v.Name()))
	return slot, made, nil
}

// shown shows the enrolled key, and removes its slot where it could not be shown:
// nobody could ever use it.
func (s *session) shown(c *cli.Context, v *volume.Volume, slot int, made *newKey, result report.Enrolled) error {
	err := s.show(c, made, result)
	if err == nil || !made.shown {
		return err
	}
	for _, added := range v.Slots {
		if added.Number == slot {
			err = errors.Join(err, v.Remove(context.WithoutCancel(c.Context), added))
		}
	}
	return err
}

// show prints the result of an enrollment: a recovery key on stdout and, on a terminal,
// with explanations and a QR code.
func (s *session) show(c *cli.Context, made *newKey, result report.Enrolled) error {
	file := c.String("save-recovery-key")
	if made.shown && file != "" {
		if err := writeSecret(file, made.secret); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		if made.shown && file == "" {
			result.RecoveryKey = string(made.secret.Bytes())
		}
		return cmdline.PrintJSON(c, result)
	}
	if !made.shown || file != "" {
		return nil
	}
	if terminal.Is(os.Stderr) {
		drawn, err := secret.QR(made.secret.Bytes())
		if err != nil {
			return err
		}
		terminal.Fprintf(c.App.ErrWriter, "%s\nThis is the recovery key. It is shown this once and stored nowhere:\neverybody who has it can read the data, and without it a broken TPM loses the data.\n\n", drawn)
		clear(drawn)
	}
	return writeLine(c.App.Writer, made.secret)
}

func recoveryEnroller(c *cli.Context, _ *session) (*enrollment, error) {
	file := c.String("recovery-key-file")
	if file != "" && c.IsSet("save-recovery-key") {
		return nil, exit.Usagef("--save-recovery-key: --recovery-key-file already has the key")
	}
	return &enrollment{volume.Recovery, "a recovery key of 256 random bits", func(context.Context) (*newKey, error) {
		var key *secret.Memory
		var err error
		if file != "" {
			key, err = readRecoveryKey(file) // whoever gave it has it
		} else {
			key, err = secret.Take(secret.NewRecoveryKey())
		}
		return &newKey{secret: key, kdf: cryptsetup.Random, shown: file == "",
			token: func(slot int) (json.RawMessage, error) { return luks.Recovery(slot), nil }}, err
	}}, nil
}

// minPassphrase is the minimum length of a passphrase, in bytes.
const minPassphrase = 8

func passphraseEnroller(c *cli.Context, s *session) (*enrollment, error) {
	file := c.String("new-key-file")
	if file == "-" && c.String("key-file") == "-" {
		return nil, exit.Usagef("--key-file and --new-key-file can't both be stdin")
	}
	return &enrollment{volume.Passphrase, "a passphrase, hashed with argon2id", func(ctx context.Context) (*newKey, error) {
		key, err := s.typedOr(ctx, file, "passphrase")
		if err != nil {
			return nil, err
		}
		if len(key.Bytes()) < minPassphrase {
			key.Wipe()
			return nil, exit.Hint(errors.New("the passphrase is too short"), "%d characters or more; a few random words are easy to keep", minPassphrase)
		}
		return &newKey{secret: key, kdf: cryptsetup.Typed}, nil
	}}, nil
}

// typedOr reads a new secret from a file, or asks for it.
func (s *session) typedOr(ctx context.Context, file, what string) (*secret.Memory, error) {
	if file != "" {
		return readSecret(file)
	}
	return s.askTwice(ctx, what)
}
