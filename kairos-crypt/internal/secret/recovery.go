// Package secret holds secrets in memory, and generates, parses and shows recovery
// keys.
package secret

import (
	"crypto/rand"
	"errors"
	"strings"
)

// modhex is the alphabet of recovery keys: letters at the same place on most keyboards
// (systemd, src/shared/recovery-key.c).
const modhex = "cbdefghijklnrtuv"

const (
	recoveryBytes = 32
	groupLength   = 8 // letters between dashes
	recoveryText  = 2*recoveryBytes + 2*recoveryBytes/groupLength - 1
)

// ErrRecoveryKey says that a text has not the form of a recovery key.
var ErrRecoveryKey = errors.New("not a recovery key: it has 64 letters in 8 groups")

// NewRecoveryKey generates a recovery key of 256 random bits in systemd's format. The
// text is the key slot's passphrase.
func NewRecoveryKey() []byte {
	raw := make([]byte, recoveryBytes)
	defer clear(raw)
	_, _ = rand.Read(raw) // never fails: the program ends instead
	key := make([]byte, 0, recoveryText)
	for i, b := range raw {
		if i > 0 && 2*i%groupLength == 0 {
			key = append(key, '-')
		}
		key = append(key, modhex[b>>4], modhex[b&15])
	}
	return key
}

// ParseRecoveryKey returns the passphrase for a typed recovery key: with or without
// dashes, in upper or lower case.
func ParseRecoveryKey(typed []byte) ([]byte, error) {
	if len(typed) != recoveryText && len(typed) != 2*recoveryBytes {
		return nil, ErrRecoveryKey
	}
	dashed := len(typed) == recoveryText
	key := make([]byte, 0, recoveryText)
	for _, c := range typed {
		if len(key)%(groupLength+1) == groupLength {
			key = append(key, '-')
			if dashed {
				if c != '-' {
					return nil, ErrRecoveryKey
				}
				continue
			}
		}
		lower := c | 0x20 // of a letter; no other byte becomes one of modhex
		if strings.IndexByte(modhex, lower) < 0 {
			return nil, ErrRecoveryKey
		}
		key = append(key, lower)
	}
	return key, nil
}
