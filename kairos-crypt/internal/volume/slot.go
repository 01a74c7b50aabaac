package volume

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/lib/report"
)

// Kind is the source of a key slot's secret.
type Kind = report.Kind

const (
	TPM2, Tang, Recovery, Passphrase = report.TPM2, report.Tang, report.Recovery, report.Passphrase
	Other, Orphan                    = report.Other, report.Orphan
)

// Kinds are the kinds that can be enrolled.
var Kinds = []Kind{TPM2, Recovery, Passphrase, Tang}

// Slot is one key slot.
type Slot struct {
	Number int
	Kind   Kind
	Token  int        // number of its token, -1 without
	TPM2   *luks.TPM2 // of a slot of that kind whose token could be read
	Clevis *luks.Clevis
	Bad    error // why the token can't be read
	Bound  bool  // the slot opens the data
}

// Way reports whether the slot could open the volume.
func (s Slot) Way() bool { return s.Bound && s.Kind != Orphan && s.Bad == nil }

func (s Slot) String() string { return fmt.Sprintf("slot %d (%s)", s.Number, s.Kind) }

// randomIterations is the pbkdf2 cost of random keys, both systemd's and ours. Typed
// passphrases have at least a hundred times as many.
const randomIterations = 1000

// describe sets the fields of a slot from its token.
func (s *Slot) describe(token luks.Token) {
	switch token.Type {
	case luks.TypeTPM2:
		s.Kind = TPM2
		s.TPM2, s.Bad = luks.ParseTPM2(token)
	case luks.TypeRecovery:
		s.Kind = Recovery
	case luks.TypeClevis:
		s.Kind = Tang
		s.Clevis, s.Bad = luks.ParseClevis(token)
	default:
		s.Kind = Other
	}
}

func slots(m *luks.Metadata) []Slot {
	var list []Slot
	bound := m.Bound()
	for _, number := range slices.Sorted(maps.Keys(m.Keyslots)) {
		s := Slot{Number: number, Token: -1, Kind: Passphrase, Bound: slices.Contains(bound, number)}
		if place := m.Keyslots[number]; place.KDF == "pbkdf2" && place.Iterations <= randomIterations {
			s.Kind = Orphan
			if m.Conversion() { // cryptsetup takes no tokens yet: see cryptsetup.BeginEncrypt
				s.Kind = Recovery
			}
		}
		for _, token := range m.TokensOf(number) {
			s.Token = token
			if s.describe(m.Tokens[token]); s.Kind != Other { // the first that is known counts
				break
			}
		}
		list = append(list, s)
	}
	return list
}

// Find returns the slots that an argument names: a number, or a kind.
func (v *Volume) Find(name string) ([]Slot, error) {
	number, err := strconv.Atoi(name)
	found := slices.DeleteFunc(slices.Clone(v.Slots), func(s Slot) bool {
		if err == nil {
			return s.Number != number
		}
		return string(s.Kind) != name
	})
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no key slot %s", v.Device, name)
	}
	return found, nil
}

// free returns the lowest free number.
func free[V any](taken map[int]V, what string) (int, error) {
	for number := range luks.MaxSlots {
		if _, ok := taken[number]; !ok {
			return number, nil
		}
	}
	return 0, fmt.Errorf("all %d %s are taken", luks.MaxSlots, what)
}
