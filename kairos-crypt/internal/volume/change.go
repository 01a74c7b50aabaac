package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
)

// Enrollment is a key that Add adds.
type Enrollment struct {
	Key []byte         // opens the volume now
	New []byte         // opens the new slot
	KDF cryptsetup.KDF // of the new slot
	// Token returns the token for a slot, nil for none.
	Token func(slot int) (json.RawMessage, error)
}

// Add fills a free key slot and tests that it opens; it removes a slot that doesn't. It
// returns the slot's number.
func (v *Volume) Add(ctx context.Context, e Enrollment) (int, error) {
	number, err := free(v.Header.Metadata.Keyslots, "key slots")
	if err != nil {
		return 0, err
	}
	token, err := free(v.Header.Metadata.Tokens, "tokens")
	if err != nil {
		return 0, err
	}
	var text json.RawMessage
	if e.Token != nil {
		if text, err = e.Token(number); err != nil {
			return 0, err
		}
	}
	if err := cryptsetup.AddKey(ctx, v.Device, number, e.Key, e.New, e.KDF); err != nil {
		return 0, fmt.Errorf("add key slot %d: %w", number, err)
	}
	err = cryptsetup.Test(ctx, v.Device, number, e.New)
	if err == nil && text != nil {
		err = cryptsetup.ImportToken(ctx, v.Device, token, text)
	}
	if err != nil {
		// An interruption must not leave half of it.
		undone := cryptsetup.KillSlot(context.WithoutCancel(ctx), v.Device, number)
		return 0, errors.Join(fmt.Errorf("key slot %d: %w", number, err), undone, v.Reload())
	}
	return number, v.Reload()
}

// Errors of Remove and Guard.
var (
	ErrLastWay      = errors.New("it is the last key slot that opens the volume")
	ErrLastRecovery = errors.New("it is the last recovery key, which is needed if the TPM changes")
)

// Guard returns an error if the removal of slots would leave no way to open the volume,
// or no recovery key.
func (v *Volume) Guard(removed ...Slot) error {
	goes := func(s Slot) bool {
		return slices.ContainsFunc(removed, func(r Slot) bool { return r.Number == s.Number })
	}
	ways, recovery := 0, 0
	for _, s := range v.Slots {
		if s.Way() && !goes(s) {
			ways++
			if s.Kind == Recovery {
				recovery++
			}
		}
	}
	for _, s := range removed {
		switch {
		case s.Way() && ways == 0:
			return fmt.Errorf("remove %s: %w", s, ErrLastWay)
		case s.Kind == Recovery && s.Way() && recovery == 0:
			return fmt.Errorf("remove %s: %w", s, ErrLastRecovery)
		}
	}
	return nil
}

// Remove erases key slots and their tokens. The caller has called Guard.
func (v *Volume) Remove(ctx context.Context, removed ...Slot) error {
	for _, s := range removed {
		if err := cryptsetup.KillSlot(ctx, v.Device, s.Number); err != nil {
			return fmt.Errorf("remove %s: %w", s, err)
		}
		for _, token := range v.Header.Metadata.TokensOf(s.Number) {
			if len(v.Header.Metadata.Tokens[token].Keyslots) > 1 {
				continue // it leads to another slot as well
			}
			if err := cryptsetup.RemoveToken(ctx, v.Device, token); err != nil {
				return fmt.Errorf("remove the token of %s: %w", s, err)
			}
		}
	}
	return v.Reload()
}

// Erase erases all key slots and verifies that nothing of them is left: nobody can read
// the data again.
func (v *Volume) Erase(ctx context.Context) error {
	before := map[int][]byte{}
	for _, s := range v.Slots {
		material, err := v.material(s.Number)
		if err != nil {
			return fmt.Errorf("key slot %d: %w", s.Number, err)
		}
		before[s.Number] = material
	}
	old := *v
	if err := cryptsetup.Erase(ctx, v.Device); err != nil {
		return err
	}
	if err := v.Reload(); err != nil {
		return err
	}
	if len(v.Slots) > 0 {
		return fmt.Errorf("%s is not erased: it still has %s", v.Device, v.Slots[0])
	}
	for number, material := range before {
		now, err := old.material(number)
		if err != nil {
			return fmt.Errorf("key slot %d: %w", number, err)
		}
		if len(now) > 0 && bytes.Equal(now, material) {
			return fmt.Errorf("%s is not erased: the key material of slot %d is still on the disk", v.Device, number)
		}
	}
	return nil
}
