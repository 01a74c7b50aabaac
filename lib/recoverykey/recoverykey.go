// Package recoverykey is the recovery key of a node: one key for all encrypted
// volumes that are made at once, by kairos-install or kairos-reset. kairos-crypt
// makes the key and the volumes; it gets the key on stdin, as every program does
// that needs it.
package recoverykey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/lib/harden"
	"github.com/kairos-io/toolkit/lib/run"
)

// Program is what makes and opens encrypted volumes.
const Program = "kairos-crypt"

// maxLength bounds what kairos-crypt may say that a key is, in bytes.
const maxLength = 128

// Key is a recovery key. It prints as what it is, and not as its letters.
type Key struct{ letters []byte }

func (*Key) String() string   { return "(a recovery key)" }
func (*Key) GoString() string { return "(a recovery key)" }

// New returns a new key. The process is hardened before it sees one: see
// harden.Process.
func New(ctx context.Context, runner run.Runner) (*Key, error) {
	if err := harden.Process(); err != nil {
		return nil, err
	}
	out, err := runner.Output(ctx, Program, "recovery-key", "new")
	if err != nil {
		return nil, fmt.Errorf("make a recovery key: %w", err)
	}
	letters := bytes.TrimSuffix(out, []byte("\n"))
	if len(letters) == 0 || len(letters) > maxLength || bytes.ContainsFunc(letters, func(r rune) bool { return r <= ' ' || r > '~' }) {
		clear(out)
		return nil, errors.New("make a recovery key: kairos-crypt printed none")
	}
	return &Key{letters}, nil
}

// Wipe erases the key.
func (k *Key) Wipe() {
	if k != nil {
		clear(k.letters)
		k.letters = nil
	}
}

// Run runs a program that reads the key on stdin, and returns what it prints.
func (k *Key) Run(ctx context.Context, runner run.Runner, argv ...string) ([]byte, error) {
	runner.Stdin = k.letters
	return runner.Output(ctx, argv...)
}

// Show writes the key for people, as text and QR code, and what it is for.
func (k *Key) Show(ctx context.Context, runner run.Runner, w io.Writer) error {
	shown, err := k.Run(ctx, runner, Program, "recovery-key", "show")
	if err != nil {
		return fmt.Errorf("show the recovery key: %w", err)
	}
	defer clear(shown)
	const about = `This is the recovery key of this node. It is shown this once and stored nowhere:
everybody who has it can read the node's data, and without it a broken TPM loses the data.
If nobody keeps it, "kairos-crypt rotate VOLUME recovery-key" makes another on the running node.
`
	text := append(append(make([]byte, 0, len(shown)+len(about)+2), shown...), about...)
	defer clear(text)
	if _, err := w.Write(append(append([]byte("\n"), text...), '\n')); err != nil {
		return fmt.Errorf("show the recovery key: %w", err)
	}
	return nil
}

// Write writes the key and a newline.
func (k *Key) Write(w io.Writer) error {
	line := append(append(make([]byte, 0, maxLength+1), k.letters...), '\n')
	defer clear(line)
	if _, err := w.Write(line); err != nil {
		return fmt.Errorf("write the recovery key: %w", err)
	}
	return nil
}

// Volume is an encrypted volume that the key opens.
type Volume struct {
	Label string `json:"label"` // of its partition and of its file system
	UUID  string `json:"uuid"`  // in its LUKS header
}

// VolumeLabel is the label in the LUKS header of a partition's volume. It is not
// that of the file system in it: udev would make /dev/disk/by-label/LABEL lead to
// either.
func VolumeLabel(partition string) string { return partition + "_CRYPT" }

// FormatCommand is the command that makes a volume of a partition, whatever is on
// it, with key slots of these kinds beside the recovery key.
func FormatCommand(node, partition string, kinds []string, options ...string) []string {
	argv := []string{Program, "format", "--yes", "--json", "--label=" + VolumeLabel(partition), "--recovery-key-file=-"}
	for _, kind := range kinds {
		argv = append(argv, "--enroll="+kind)
	}
	return append(append(argv, options...), node)
}

// UnlockCommand is the command that maps a volume as /dev/mapper/name.
func UnlockCommand(node, name string) []string {
	return []string{Program, "unlock", "--quiet", "--key-file=-", node, name}
}

// ParseFormatted reads the answer to FormatCommand.
func ParseFormatted(partition string, answer []byte) (Volume, error) {
	var formatted struct {
		UUID string `json:"uuid"`
	}
	if err := json.Unmarshal(answer, &formatted); err != nil {
		return Volume{}, fmt.Errorf("read the answer of %s: %w", Program, err)
	}
	if formatted.UUID == "" {
		return Volume{}, fmt.Errorf("read the answer of %s: no UUID", Program)
	}
	return Volume{partition, formatted.UUID}, nil
}
