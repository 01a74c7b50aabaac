package cryptsetup

import (
	"context"
	"os"
	"strconv"
)

// EncryptRoom is the free space that an encryption in place needs at the end of the
// device, in bytes: half for the header, half for moving the data.
const EncryptRoom = 32 << 20

// BeginEncrypt writes a header to a device with data, whose last EncryptRoom bytes are
// free, and moves the data that was in the place of the header. From then on the header
// records the progress of the encryption: ResumeEncrypt can be interrupted at any point
// and called again. Until the end, cryptsetup accepts neither key slots nor tokens, so
// key remains the only key.
func BeginEncrypt(ctx context.Context, device string, key []byte, kdf KDF, label string) error {
	arguments := append([]string{"reencrypt", "--encrypt", "--init-only", "--batch-mode", "--type", "luks2",
		"--reduce-device-size", strconv.Itoa(EncryptRoom), "--key-file", pipe(0)}, kdf.arguments()...)
	if label != "" {
		arguments = append(arguments, "--label="+label)
	}
	_, err := execute(ctx, [][]byte{key}, nil, append(arguments, "--", device)...)
	return err
}

// Repair completes the step during which an encryption in place was interrupted; after
// the last step it also ends the encryption. Where nothing was interrupted, it does
// nothing.
func Repair(ctx context.Context, device string, key []byte) error {
	_, err := execute(ctx, [][]byte{key}, nil, "repair", "--batch-mode", "--key-file", pipe(0), "--", device)
	return err
}

// ResumeEncrypt encrypts the rest of the data, after Repair. It writes every step to
// the disk before the next, with checksums of the data that the step changes.
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
