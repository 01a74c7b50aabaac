package luks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Clevis is a token of type "clevis": a key slot's passphrase in a JWE (RFC 7516),
// whose key clevis(1) obtains by the method that the pin names.
type Clevis struct {
	Pin string // "tang", "sss", "tpm2", …
	URL string // of the tang server, "" with other pins
	JWE string // in compact form: the input of "clevis decrypt"
}

// jweParts are the fields of a JWE in the order of its compact form.
var jweParts = []string{"protected", "encrypted_key", "iv", "ciphertext", "tag"}

// ParseClevis parses a token of type "clevis".
func ParseClevis(token Token) (*Clevis, error) {
	if token.Type != TypeClevis {
		return nil, fmt.Errorf("token of type %q is not %s", token.Type, TypeClevis)
	}
	var jwe json.RawMessage
	if err := decode(token.JSON, fields{"jwe": &jwe}); err != nil {
		return nil, fmt.Errorf("%s token: %w", TypeClevis, err)
	}
	if jwe == nil {
		return nil, fmt.Errorf("%s token: jwe is missing", TypeClevis)
	}
	values := make([]string, len(jweParts))
	wanted := fields{}
	for i, name := range jweParts {
		wanted[name] = &values[i]
	}
	if err := decode(jwe, wanted); err != nil {
		return nil, fmt.Errorf("%s token: jwe: %w", TypeClevis, err)
	}
	c := &Clevis{JWE: strings.Join(values, ".")}
	if err := c.read(values); err != nil {
		return nil, fmt.Errorf("%s token: jwe: %w", TypeClevis, err)
	}
	return c, nil
}

// read validates the parts of a JWE and parses clevis' fields in its header.
func (c *Clevis) read(parts []string) error {
	for i, part := range parts {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return fmt.Errorf("%s is not base64url", jweParts[i])
		}
	}
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	var clevis, tang json.RawMessage
	if err := decode(header, fields{"clevis": &clevis}); err != nil {
		return fmt.Errorf("protected: %w", err)
	}
	if clevis == nil {
		return errors.New("protected: clevis is missing")
	}
	if err := decode(clevis, fields{"pin": &c.Pin, "tang": &tang}); err != nil {
		return fmt.Errorf("protected: clevis: %w", err)
	}
	if c.Pin == "" || strings.Trim(c.Pin, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return fmt.Errorf("protected: clevis: pin %.40q is not one", c.Pin)
	}
	if c.Pin == "tang" && tang != nil {
		if err := decode(tang, fields{"url": &c.URL}); err != nil {
			return fmt.Errorf("protected: clevis: tang: %w", err)
		}
	}
	c.URL = field([]byte(c.URL))
	return nil
}

// FromJWE returns the token for a slot and a JWE in compact form, as "clevis luks bind"
// writes it.
func FromJWE(slot int, compact []byte) (json.RawMessage, error) {
	parts := strings.Split(string(bytes.TrimSpace(compact)), ".")
	if len(parts) != len(jweParts) {
		return nil, fmt.Errorf("a JWE of %d parts, not %d", len(parts), len(jweParts))
	}
	if err := new(Clevis).read(parts); err != nil {
		return nil, err
	}
	jwe := map[string]string{}
	for i, name := range jweParts {
		jwe[name] = parts[i]
	}
	return json.Marshal(map[string]any{"type": TypeClevis, "keyslots": []string{strconv.Itoa(slot)}, "jwe": jwe})
}
