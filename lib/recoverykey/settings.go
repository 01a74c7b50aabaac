package recoverykey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/kairos-io/toolkit/lib/nodeconfig"
	"github.com/kairos-io/toolkit/lib/run"
)

// Settings is the key "kcrypt" of a node's cloud-config, in Kairos' spelling where
// Kairos has the setting.
type Settings struct {
	Enroll []string // kinds of key slots beside the recovery key; none when not set
	Escrow Escrow
	// Server is a key server, which is not supported.
	Server bool
	// Ignored are keys of Kairos that have no effect.
	Ignored []string
}

// Load gets the settings from kairos-config: from the node's configs and the given
// files. Without a config nothing is set.
func Load(ctx context.Context, r run.Runner, files []string) (Settings, error) {
	value, err := nodeconfig.Get(ctx, r, files, "kcrypt")
	if err != nil {
		return Settings{}, err
	}
	s, err := ParseSettings(value)
	if err != nil {
		return Settings{}, fmt.Errorf("read the node's config: %w", err)
	}
	return s, nil
}

// Kinds are the kinds of key slots that can be created unattended.
var Kinds = []string{"tpm2", "passphrase", "none"}

// ParseSettings parses the value of "kcrypt" as JSON.
func ParseSettings(data []byte) (Settings, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return Settings{}, nil
	}
	var doc struct {
		Enroll     []string `json:"enroll"`
		Escrow     Escrow   `json:"escrow"`
		Challenger struct {
			Server string `json:"challenger_server"`
			MDNS   bool   `json:"mdns"`
		} `json:"challenger"`
	}
	var keys map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(data, &doc), json.Unmarshal(data, &keys)); err != nil {
		return Settings{}, fmt.Errorf("kcrypt: %w", err)
	}
	s := Settings{Enroll: doc.Enroll, Escrow: doc.Escrow, Server: doc.Challenger.Server != "" || doc.Challenger.MDNS}
	for key := range keys {
		if !slices.Contains([]string{"enroll", "escrow", "challenger"}, key) {
			s.Ignored = append(s.Ignored, "kcrypt."+key)
		}
	}
	slices.Sort(s.Ignored)
	if err := CheckKinds(s.Enroll); err != nil {
		return Settings{}, fmt.Errorf("kcrypt.enroll: %w", err)
	}
	return s, s.Escrow.Check()
}

// CheckKinds returns an error for unknown kinds, and for others beside none.
func CheckKinds(kinds []string) error {
	for _, kind := range kinds {
		if !slices.Contains(Kinds, kind) {
			return fmt.Errorf("%s: not tpm2, passphrase or none", kind)
		}
	}
	if slices.Contains(kinds, "none") && len(kinds) > 1 {
		return errors.New("none cannot be combined with another kind")
	}
	return nil
}
