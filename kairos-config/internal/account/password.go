package account

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/go-crypt/x/yescrypt"
)

// hashed reports whether a password is a hash, or locks the account: crypt(5) hashes
// begin with $ or, in old formats, _; either may follow a !.
func hashed(password string) bool {
	switch p := strings.TrimPrefix(password, "!"); {
	case password == "" || p == "" || p == "*" || p == "!":
		return true
	default:
		return strings.HasPrefix(p, "$") && strings.Count(p, "$") >= 3
	}
}

// alphabet is that of crypt(5)'s base64.
const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// hash returns the yescrypt hash of a plain password: the old hash if the password
// matches it, so that applying a config again changes nothing, otherwise one with a new
// salt and the cost of Debian and Fedora (j9T).
func hash(password, old string) (string, error) {
	if strings.HasPrefix(old, "$y$") {
		if again, err := yescrypt.Hash([]byte(password), []byte(old)); err == nil && string(again) == old {
			return old, nil
		}
	}
	var random [22]byte // 132 bits
	_, _ = rand.Read(random[:])
	for i, b := range random {
		random[i] = alphabet[b&63]
	}
	// The last character holds 2 bits of 128: the format has no others.
	random[21] = alphabet[random[21]&3]
	made, err := yescrypt.Hash([]byte(password), []byte("$y$j9T$"+string(random[:])))
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(made), nil
}
