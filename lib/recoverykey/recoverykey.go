// Package recoverykey handles the recovery key of a node: one key for all encrypted
// volumes that kairos-install or kairos-reset creates at once. kairos-crypt generates
// the key and creates the volumes; every program that needs the key gets it on stdin.
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

// Program is the program that creates and opens encrypted volumes.
const Program = "kairos-crypt"

// maxLength is how long a key from kairos-crypt may be, in bytes.
const maxLength = 128

// Key is a recovery key. Formatting one with fmt does not print the key.
type Key struct{ letters []byte }

// String returns a placeholder, not the key.
func (*Key) String() string { return "(a recovery key)" }

// GoString returns a placeholder, not the key.
func (*Key) GoString() string { return "(a recovery key)" }

// New generates a key. It hardens the process before: see harden.Process.
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

// Wipe erases the key from memory.
func (k *Key) Wipe() {
	if k != nil {
		clear(k.letters)
		k.letters = nil
	}
}

// Run runs a program that reads the key on stdin, and returns its stdout.
func (k *Key) Run(ctx context.Context, runner run.Runner, argv ...string) ([]byte, error) {
	runner.Stdin = k.letters
	return runner.Output(ctx, argv...)
}

// Show writes the key for people: as text and QR code, with the volumes that it opens.
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

// VolumeLabel returns the label in the LUKS header of the volume on a partition. It
// differs from the label of the file system in the volume: otherwise udev would make
// /dev/disk/by-label/LABEL point at either.
func VolumeLabel(partition string) string { return partition + "_CRYPT" }

// FormatCommand returns the command that creates a volume on a partition, overwriting
// its content, with key slots of these kinds beside the recovery key.
func FormatCommand(node, partition string, kinds []string, options ...string) []string {
	argv := []string{Program, "format", "--yes", "--json", "--label=" + VolumeLabel(partition), "--recovery-key-file=-"}
	for _, kind := range kinds {
		argv = append(argv, "--enroll="+kind)
	}
	return append(append(argv, options...), node)
}

// UnlockCommand returns the command that maps a volume as /dev/mapper/name.
func UnlockCommand(node, name string) []string {
	return []string{Program, "unlock", "--quiet", "--key-file=-", node, name}
}

// ParseFormatted parses the output of FormatCommand.
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
