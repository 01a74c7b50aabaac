// Package cryptsetup changes LUKS2 volumes by executing cryptsetup(8).
//
// It passes secrets on pipes, never in arguments, the environment or files.
package cryptsetup

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/run"
)

// ErrWrongKey says that the secret opens no key slot, or not the named one.
var ErrWrongKey = errors.New("no key slot opens with this key")

// ErrExists says that the mapping exists, or that the device has one already.
var ErrExists = errors.New("it is open already, or in use")

// KDF is the key derivation function of a key slot.
type KDF int

const (
	// Typed is for secrets that people type: argon2id, with the cost that cryptsetup
	// measures on this machine.
	Typed KDF = iota
	// Random is for secrets of 256 random bits, which cannot be guessed: the least cost
	// that cryptsetup allows, as systemd uses.
	Random
)

func (k KDF) arguments() []string {
	if k == Random {
		return []string{"--pbkdf", "pbkdf2", "--hash", "sha512", "--pbkdf-force-iterations", "1000"}
	}
	return []string{"--pbkdf", "argon2id"}
}

// Format creates a new, empty LUKS2 volume whose first key slot opens with key. The old
// content of the device is lost: the caller has checked that it may be.
func Format(ctx context.Context, device string, key []byte, kdf KDF, label string) error {
	arguments := append([]string{"luksFormat", "--batch-mode", "--type", "luks2", "--key-file", pipe(0)}, kdf.arguments()...)
	if label != "" {
		arguments = append(arguments, "--label="+label)
	}
	_, err := execute(ctx, [][]byte{key}, nil, append(arguments, "--", device)...)
	return err
}

// AddKey adds a new key in a free key slot; key opens the volume now.
func AddKey(ctx context.Context, device string, slot int, key, added []byte, kdf KDF) error {
	arguments := append([]string{"luksAddKey", "--batch-mode", "--key-file", pipe(0), "--key-slot", strconv.Itoa(slot)}, kdf.arguments()...)
	_, err := execute(ctx, [][]byte{key, added}, nil, append(arguments, "--", device, pipe(1))...)
	return err
}

// Test tests whether a key opens a key slot, or any slot when slot is negative. It maps
// nothing. It returns ErrWrongKey when the key doesn't.
func Test(ctx context.Context, device string, slot int, key []byte) error {
	arguments := []string{"open", "--test-passphrase", "--batch-mode", "--key-file", pipe(0)}
	if slot >= 0 {
		arguments = append(arguments, "--key-slot", strconv.Itoa(slot))
	}
	_, err := execute(ctx, [][]byte{key}, nil, append(arguments, "--", device)...)
	return err
}

// Open maps a volume as /dev/mapper/name with the key of a slot.
func Open(ctx context.Context, device, name string, slot int, key []byte) error {
	return open(ctx, device, name, slot, key)
}

func open(ctx context.Context, device, name string, slot int, key []byte, options ...string) error {
	// As systemd-cryptsetup does by default, discards are not passed on.
	arguments := append([]string{"open", "--type", "luks2", "--batch-mode", "--key-file", pipe(0), "--key-slot", strconv.Itoa(slot)}, options...)
	_, err := execute(ctx, [][]byte{key}, nil, append(arguments, "--", device, name)...)
	return err
}

// Close removes a mapping.
func Close(ctx context.Context, name string) error {
	_, err := execute(ctx, nil, nil, "close", "--", name)
	return err
}

// maxVolumeKey is how long a volume key may be, in bytes.
const maxVolumeKey = 256

// VolumeKey returns the volume key, which encrypts the data. The caller wipes it.
func VolumeKey(ctx context.Context, device string, slot int, key []byte) ([]byte, error) {
	out, err := execute(ctx, [][]byte{key}, nil, "luksDump", "--dump-volume-key", "--batch-mode", "--key-file", pipe(0), "--key-slot", strconv.Itoa(slot), "--", device)
	defer clear(out)
	if err != nil {
		return nil, err
	}
	// "MK dump:", or "Volume key:" in newer versions, and lines of hex.
	at := max(bytes.LastIndex(out, []byte("MK dump:")), bytes.LastIndex(out, []byte("Volume key:")))
	if at < 0 {
		return nil, errors.New("cryptsetup luksDump: no volume key in its output")
	}
	at += bytes.IndexByte(out[at:], ':') + 1
	digits := make([]byte, 0, 2*maxVolumeKey)
	defer clear(digits[:cap(digits)])
	for _, c := range out[at:] {
		if !strings.ContainsRune(" \t\n", rune(c)) {
			if len(digits) == cap(digits) {
				return nil, errors.New("cryptsetup luksDump: the volume key is too long")
			}
			digits = append(digits, c)
		}
	}
	volumeKey := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(volumeKey, digits); err != nil || len(volumeKey) == 0 {
		return nil, errors.New("cryptsetup luksDump: the volume key is not hex")
	}
	return volumeKey, nil
}

// KillSlot erases a key slot. The caller makes sure that another one remains:
// cryptsetup doesn't ask.
func KillSlot(ctx context.Context, device string, slot int) error {
	_, err := execute(ctx, nil, nil, "luksKillSlot", "--batch-mode", "--", device, strconv.Itoa(slot))
	return err
}

// Erase erases all key slots: nobody can read the data again.
func Erase(ctx context.Context, device string) error {
	_, err := execute(ctx, nil, nil, "erase", "--batch-mode", "--", device)
	return err
}

// ImportToken writes a token with a number that is free.
func ImportToken(ctx context.Context, device string, number int, token json.RawMessage) error {
	_, err := execute(ctx, nil, token, "token", "import", "--token-id", strconv.Itoa(number), "--json-file", "-", "--", device)
	return err
}

// RemoveToken removes a token. Its key slot remains.
func RemoveToken(ctx context.Context, device string, number int) error {
	_, err := execute(ctx, nil, nil, "token", "remove", "--token-id", strconv.Itoa(number), "--", device)
	return err
}

// pipe returns the path by which the child opens secret number n, after descriptors 0
// to 2. It is in /proc, since /dev/fd exists only where udev or another program has
// created it.
func pipe(n int) string { return "/proc/self/fd/" + strconv.Itoa(3+n) }

type held struct{}

// Hold returns a context for programs that write to the device: they inherit the open
// lock file. So the device stays locked until the last of them has ended, even if they
// outlive a killed caller.
func Hold(ctx context.Context, lock *os.File) context.Context {
	return context.WithValue(ctx, held{}, lock)
}

// Held returns the files that a program inherits which writes to the device.
func Held(ctx context.Context) []*os.File {
	if lock, ok := ctx.Value(held{}).(*os.File); ok {
		return []*os.File{lock}
	}
	return nil
}

// execute runs cryptsetup with each secret on a pipe.
func execute(ctx context.Context, secrets [][]byte, stdin []byte, arguments ...string) ([]byte, error) {
	runner := run.Runner{Stdin: stdin}
	for _, secret := range secrets {
		reader, err := filled(secret)
		if err != nil {
			return nil, err
		}
		defer reader.Close()
		runner.Files = append(runner.Files, reader)
	}
	runner.Files = append(runner.Files, Held(ctx)...)
	out, err := runner.Output(ctx, append([]string{"cryptsetup"}, arguments...)...)
	var failed *run.Error
	if !errors.As(err, &failed) {
		return out, err
	}
	failed.Program += " " + arguments[0]
	switch failed.Status { // cryptsetup(8), "RETURN CODES"
	case 2: // no permission (bad passphrase)
		return nil, fmt.Errorf("%s: %w", failed.Program, ErrWrongKey)
	case 5: // device already exists or is busy
		return nil, fmt.Errorf("%s: %w: %s", failed.Program, ErrExists, failed.Cause)
	}
	return nil, err
}

// maxSecret is the maximum size of a secret, which fits into an empty pipe, so that a
// write never blocks.
const maxSecret = 4096

// filled returns the reading end of a pipe that holds a secret and then ends.
func filled(secret []byte) (*os.File, error) {
	if len(secret) == 0 || len(secret) > maxSecret {
		return nil, fmt.Errorf("a key of %d bytes: 1 to %d are allowed", len(secret), maxSecret)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = writer.Write(secret)
	if err = errors.Join(err, writer.Close()); err != nil {
		reader.Close()
		return nil, err
	}
	return reader, nil
}
