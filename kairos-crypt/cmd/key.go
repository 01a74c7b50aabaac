package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/way"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

// keyFileFlag returns the option --key-file: a key that opens the volume now.
func keyFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "key-file", Usage: "open the volume with the recovery key or passphrase in `FILE`, - for stdin, instead of trying its key slots"}
}

// noAskFlag returns the option --no-ask-password, named like that of systemctl(1).
func noAskFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-ask-password", Usage: "never ask; fail instead"}
}

// saveRecoveryKeyFlag returns the option --save-recovery-key.
func saveRecoveryKeyFlag() cli.Flag {
	return &cli.StringFlag{Name: "save-recovery-key", Usage: "write a new recovery key to the new `FILE`, instead of printing it"}
}

// nobody is the way.Asker with --no-ask-password: it asks no one.
func nobody(context.Context, string) (*secret.Memory, error) {
	return nil, fmt.Errorf("%w: not with --no-ask-password", way.ErrNobody)
}

// key gets a key that opens a volume: from --key-file, or from the volume's slots of
// the given kinds, of all kinds when none are given.
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
	return s.ways.Typed(c.Context, v, typed)
}

// passed returns the open file that "fd:N" names, nil for other names. It does not open
// the file again by its path in /proc, which could permit more than the caller's
// descriptor does.
func passed(name string) (*os.File, error) {
	number, ok := strings.CutPrefix(name, "fd:")
	if !ok {
		return nil, nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n < 3 {
		return nil, exit.Usagef("%s: not a file descriptor from 3 on", name)
	}
	return os.NewFile(uintptr(n), name), nil
}

// readSecret reads a secret from a file, "-" for stdin, "fd:N" for a file descriptor.
// It removes a newline at the end.
func readSecret(name string) (*secret.Memory, error) {
	file, err := passed(name)
	switch {
	case err != nil:
		return nil, err
	case name == "-":
		file = os.Stdin
	case file == nil:
		if file, err = os.Open(name); err != nil {
			return nil, err
		}
		defer file.Close()
	default:
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

// writeSecret writes a secret and a newline to a new file, or to "fd:N".
func writeSecret(name string, key *secret.Memory) error {
	file, err := passed(name)
	if err != nil {
		return err
	}
	if file != nil {
		return errors.Join(writeLine(file, key), file.Close())
	}
	if file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return fmt.Errorf("write recovery key: %w", err)
	}
	if err := errors.Join(writeLine(file, key), file.Sync(), file.Close()); err != nil {
		return err
	}
	// The name too: what comes next may be a header that only this key opens.
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("write recovery key: %w", err)
	}
	defer root.Close()
	return atomicfile.SyncDir(root, ".")
}

func writeLine(w io.Writer, key *secret.Memory) error {
	line := append(append(make([]byte, 0, secret.MaxLength), key.Bytes()...), '\n')
	defer clear(line)
	if _, err := w.Write(line); err != nil {
		return fmt.Errorf("write recovery key: %w", err)
	}
	return nil
}

// line returns a secret without the newline at its end, and wipes raw.
func line(whence string, raw []byte) (*secret.Memory, error) {
	trimmed := bytes.TrimSuffix(raw, []byte("\n"))
	if len(trimmed) == 0 {
		return nil, fmt.Errorf("%s: no key in it", whence)
	}
	return secret.Take(trimmed)
}

// ask asks with systemd-ask-password(1), which reaches a person on this terminal, the
// boot screen or the serial console.
func ask(ctx context.Context, question string) (*secret.Memory, error) {
	command := exec.CommandContext(ctx, "systemd-ask-password", "--id=kairos-crypt", "--icon=drive-harddisk", "--timeout=0", question)
	// It takes its question back from those who would ask it.
	command.Cancel, command.WaitDelay = func() error { return command.Process.Signal(syscall.SIGTERM) }, 5*time.Second
	command.Stdin = os.Stdin
	var typed, stderr bytes.Buffer
	typed.Grow(secret.MaxLength) // so that it is not copied as it grows
	command.Stdout, command.Stderr = &typed, io.MultiWriter(os.Stderr, &stderr)
	defer func() { clear(typed.Bytes()) }()
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: systemd-ask-password: %w: %s", way.ErrNobody, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return line("the answer", typed.Bytes())
}

// askTwice asks twice for a new secret, so that a typing error locks nobody out.
func (s *session) askTwice(ctx context.Context, what string) (*secret.Memory, error) {
	first, err := s.ask(ctx, "New "+what+":")
	if err != nil {
		return nil, err
	}
	second, err := s.ask(ctx, "The same "+what+" again:")
	if err != nil {
		first.Wipe()
		return nil, err
	}
	defer second.Wipe()
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		first.Wipe()
		return nil, fmt.Errorf("the two %ss differ: nothing was changed", what)
	}
	return first, nil
}
