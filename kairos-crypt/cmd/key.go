package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/way"
	"github.com/urfave/cli/v2"
)

// keyFileFlag is the --key-file option: what opens the volume now.
func keyFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "key-file", Usage: "open the volume with the recovery key or passphrase in `FILE`, - for stdin, instead of trying its key slots"}
}

// key comes by a key that opens a volume: from --key-file, or by its slots of the
// kinds that are named, all when there are none.
func (s *session) key(c *cli.Context, v *volume.Volume, kinds ...volume.Kind) (volume.Slot, *secret.Memory, error) {
	name := c.String("key-file")
	if name == "" {
		slot, key, err := s.ways.Key(c.Context, v, kinds...)
		return slot, key, explain(err)
	}
	typed, err := readSecret(name)
	if err != nil {
		return volume.Slot{}, nil, err
	}
	return way.Typed(c.Context, v, typed)
}

// readSecret reads a secret from a file, "-" for stdin. A newline at its end is
// the editor's.
func readSecret(name string) (*secret.Memory, error) {
	file := os.Stdin
	if name != "-" {
		var err error
		if file, err = os.Open(name); err != nil {
			return nil, err
		}
		defer file.Close()
	}
	buffer, err := secret.New(secret.MaxLength)
	if err != nil {
		return nil, err
	}
	defer buffer.Wipe()
	n, err := io.ReadFull(file, buffer.Bytes())
	switch {
	case err == nil:
		return nil, fmt.Errorf("%s: longer than a key, which has at most %d bytes", name, secret.MaxLength-1)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("read key: %w", err)
	}
	return line(name, buffer.Bytes()[:n])
}

// line takes a secret without the newline at its end; raw is wiped.
func line(whence string, raw []byte) (*secret.Memory, error) {
	trimmed := bytes.TrimSuffix(raw, []byte("\n"))
	if len(trimmed) == 0 {
		return nil, fmt.Errorf("%s: no key in it", whence)
	}
	return secret.Take(trimmed)
}

// ask asks by systemd-ask-password(1), which finds the person: on this terminal,
// on the boot screen, on the serial console.
func ask(ctx context.Context, question string) (*secret.Memory, error) {
	command := exec.CommandContext(ctx, "systemd-ask-password", "--id=kairos-crypt", "--icon=drive-harddisk", "--timeout=0", question)
	command.Stdin = os.Stdin
	var typed, stderr bytes.Buffer
	typed.Grow(secret.MaxLength) // so that it is not copied as it grows
	command.Stdout, command.Stderr = &typed, io.MultiWriter(os.Stderr, &stderr)
	defer func() { clear(typed.Bytes()) }()
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: systemd-ask-password: %w", way.ErrNobody, err)
	}
	return line("the answer", typed.Bytes())
}

// askTwice asks for a new secret, so that a slip of a finger locks nobody out.
func askTwice(ctx context.Context, what string) (*secret.Memory, error) {
	first, err := ask(ctx, "New "+what+":")
	if err != nil {
		return nil, err
	}
	second, err := ask(ctx, "The same "+what+" again:")
	if err != nil {
		first.Wipe()
		return nil, err
	}
	defer second.Wipe()
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		first.Wipe()
		return nil, fmt.Errorf("the two %ss differ, nothing was done", what)
	}
	return first, nil
}
