package cmd

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/urfave/cli/v2"
)

// recoveryKeyCommand is the command recovery-key, for programs that create several
// volumes with one recovery key: kairos-install and kairos-reset.
func recoveryKeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "recovery-key",
		Usage: "make and show recovery keys, for several volumes with the same",
		Subcommands: []*cli.Command{
			{Name: "new", Usage: "print a new recovery key, for volumes that are made later", Action: newRecoveryKey},
			{
				Name: "show", Usage: "print a recovery key as text and QR code",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "key-file", Usage: "the recovery key in `FILE`, - for stdin", Value: "-"}},
				Action: showRecoveryKey,
			},
		},
	}
}

func newRecoveryKey(c *cli.Context) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	key, err := secret.Take(secret.NewRecoveryKey())
	if err != nil {
		return err
	}
	defer key.Wipe()
	return writeLine(c.App.Writer, key)
}

func showRecoveryKey(c *cli.Context) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	key, err := readRecoveryKey(c.String("key-file"))
	if err != nil {
		return err
	}
	defer key.Wipe()
	drawn, err := secret.QR(key.Bytes())
	if err != nil {
		return err
	}
	defer clear(drawn)
	if _, err := c.App.Writer.Write(drawn); err != nil {
		return fmt.Errorf("write recovery key: %w", err)
	}
	return writeLine(c.App.Writer, key)
}

// readRecoveryKey reads a recovery key from a file, "-" for stdin.
func readRecoveryKey(file string) (*secret.Memory, error) {
	typed, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	defer typed.Wipe()
	key, err := secret.ParseRecoveryKey(typed.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return secret.Take(key)
}
