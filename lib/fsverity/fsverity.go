// Package fsverity computes fs-verity file digests: the SHA-256 of a small descriptor,
// which holds the root hash of a Merkle tree over the file.
//
// The whole toolkit uses one set of parameters: SHA-256, 4 KiB blocks, no salt, no
// built-in signature. composefs records such digests in its images, and overlayfs
// compares them with verity=require, so a Digest that is computed while a file is
// downloaded is the digest that the kernel enforces later.
//
// Format: the kernel's Documentation/filesystems/fsverity.rst, sections "Merkle tree"
// and "fs-verity descriptor"; ioctl numbers from include/uapi/linux/fsverity.h.
package fsverity

import (
	"encoding/hex"
	"fmt"
)

// Size is the length of a Digest in bytes.
const Size = 32

// BlockSize is the size of data and Merkle tree blocks in bytes.
const BlockSize = 4096

// Digest is an fs-verity file digest. The zero Digest is unset: no file has it.
type Digest [Size]byte

// Parse parses a digest of exactly 64 lower-case hexadecimal digits. It refuses upper
// case: digests are file names, and a file has one name.
func Parse(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*Size {
		return Digest{}, fmt.Errorf("fs-verity digest %q: want %d hexadecimal digits", s, 2*Size)
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("fs-verity digest %q: want lower-case hexadecimal digits", s)
		}
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("fs-verity digest %q: %w", s, err)
	}
	return d, nil
}

// String returns the 64 lower-case hexadecimal digits of d.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d is unset.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler as Parse does.
func (d *Digest) UnmarshalText(text []byte) error {
	v, err := Parse(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
