package cryptsetup

import (
	"context"
	"os"
	"strconv"
)

// What an encryption in place needs at the end of the device, in bytes: half of
// it for the header, half to move the data by.
const EncryptRoom = 32 << 20

// BeginEncrypt writes a header onto a device that holds data, whose last
// EncryptRoom bytes are free, and moves the data that was in the header's place.
// The header says from then on how far the encryption is: ResumeEncrypt can be
// cut off anywhere and called again. cryptsetup takes neither key slots nor
// tokens until it has ended, so that key stays the only one.
func BeginEncrypt(ctx context.Context, device string, key []byte, kdf KDF, label string) error {
	arguments := append([]string{"reencrypt", "--encrypt", "--init-only", "--batch-mode", "--type", "luks2",
		"--reduce-device-size", strconv.Itoa(EncryptRoom), "--key-file", pipe(0)}, kdf.arguments()...)
	if label != "" {
		arguments = append(arguments, "--label="+label)
	}
	_, err := execute(ctx, [][]byte{key}, nil, append(arguments, "--", device)...)
	return err
}

// Repair puts right what was in flight when an encryption in place was cut off,
// and ends it where that was the last of it. Where nothing was, it does nothing.
func Repair(ctx context.Context, device string, key []byte) error {
	_, err := execute(ctx, [][]byte{key}, nil, "repair", "--batch-mode", "--key-file", pipe(0), "--", device)
	return err
}

// ResumeEncrypt encrypts what is left, after Repair. Every step is written to the
// disk before the next, with checksums of what is in flight.
func ResumeEncrypt(ctx context.Context, device string, key []byte) error {
	arguments := []string{"reencrypt", "--resume-only", "--batch-mode", "--key-file", pipe(0)}
	// In a file nobody can have mapped it; of a block device cryptsetup asks the
	// kernel.
	if info, err := os.Stat(device); err != nil {
		return err
	} else if info.Mode().IsRegular() {
		arguments = append(arguments, "--force-offline-reencrypt")
	}
	_, err := execute(ctx, [][]byte{key}, nil, append(arguments, "--", device)...)
	return err
}
