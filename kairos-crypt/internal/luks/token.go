package luks

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Types of the known tokens.
const (
	TypeTPM2     = "systemd-tpm2"
	TypeRecovery = "systemd-recovery"
	TypeClevis   = "clevis"
)

// maxToken is the maximum size of a token's JSON in bytes. Those of systemd have 2 to 8
// KiB.
const maxToken = 256 << 10

// Token describes how the passphrase of a key slot is obtained.
type Token struct {
	Type     string
	Keyslots []int           // numbers of the slots that the passphrase opens
	JSON     json.RawMessage // the whole token
}

func parseToken(text []byte, existing map[int]Keyslot) (*Token, error) {
	if len(text) > maxToken {
		return nil, fmt.Errorf("%d bytes: at most %d are allowed", len(text), maxToken)
	}
	var kind string
	var keyslots []string
	if err := decode(text, fields{"type": &kind, "keyslots": &keyslots}); err != nil {
		return nil, err
	}
	if kind == "" {
		return nil, errors.New("it has no type")
	}
	slots, err := references(keyslots, existing)
	if err != nil {
		return nil, fmt.Errorf("keyslots: %w", err)
	}
	return &Token{Type: kind, Keyslots: slots, JSON: text}, nil
}

// Recovery returns the token that marks a key slot as holding a recovery key,
// as systemd-cryptenroll writes it.
func Recovery(slot int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"type":%q,"keyslots":["%d"]}`, TypeRecovery, slot))
}
