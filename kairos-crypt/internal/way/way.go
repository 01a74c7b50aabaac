// Package way obtains the secrets of key slots from the TPM, from the network, or from
// a person. Each source is a Way; a key server with attestation could be another.
package way

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
)

// Way obtains the passphrases of key slots of one kind.
type Way interface {
	// Key returns the passphrase of a slot. The caller wipes it.
	Key(ctx context.Context, v *volume.Volume, slot volume.Slot) (*secret.Memory, error)
}

// Asker asks a person for a secret, and returns the answer.
type Asker func(ctx context.Context, question string) (*secret.Memory, error)

// ErrNobody says that no person could be asked.
var ErrNobody = errors.New("no person could be asked")

// Ways are the sources of this machine.
type Ways struct {
	TPM  *TPM
	Tang Tang
	Ask  Asker
	// Refused is called for each slot that didn't open, with the reason. May be nil.
	Refused func(volume.Slot, error)
	// Prove tests the key of a slot; cryptsetup.Test if nil. A function that opens the
	// volume saves a separate test.
	Prove func(ctx context.Context, v *volume.Volume, slot int, key []byte) error
	// Patience is how long a person is asked where the previous deployment could open
	// the volume (see OfDeployment): that deployment boots when nobody answers. 0:
	// without limit.
	Patience time.Duration
}

// OfDeployment reports whether one of the refusals in an error depends on nothing but
// the booted deployment: another deployment would have opened the volume.
func OfDeployment(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(joined.Unwrap(), OfDeployment)
	}
	if refusal, ok := err.(*tpm.Refusal); ok {
		return refusal.OfDeployment()
	}
	return err != nil && OfDeployment(errors.Unwrap(err))
}

// Key obtains a key that opens a volume, of the given kinds or of any. First come
// sources that need no person: the TPM, the network; then the TPM with a PIN; at last
// it asks for a recovery key or passphrase. The error says why each slot stayed closed.
func (w *Ways) Key(ctx context.Context, v *volume.Volume, kinds ...volume.Kind) (volume.Slot, *secret.Memory, error) {
	var refusals []error
	for _, slot := range Order(v, kinds...) {
		if asked(slot) {
			slot, key, err := w.ask(ctx, v, kinds, refusals)
			if err == nil {
				return slot, key, nil
			}
			return slot, nil, errors.Join(append(refusals, err)...)
		}
		key, err := w.open(ctx, v, slot)
		if err == nil {
			return slot, key, nil
		}
		if ctx.Err() != nil {
			return slot, nil, ctx.Err()
		}
		if errors.Is(err, cryptsetup.ErrExists) {
			return slot, nil, err
		}
		err = fmt.Errorf("%s: %w", slot, err)
		refusals = append(refusals, err)
		if w.Refused != nil {
			w.Refused(slot, err)
		}
	}
	if len(refusals) == 0 {
		refusals = append(refusals, fmt.Errorf("%s: no key slot that could be tried", v.Device))
	}
	return volume.Slot{}, nil, errors.Join(refusals...)
}

// Order returns the slots in the order in which they are tried: those that open the
// data, of the given kinds or of any.
func Order(v *volume.Volume, kinds ...volume.Kind) []volume.Slot {
	rank := func(s volume.Slot) int {
		switch {
		case asked(s):
			return 3
		case s.Kind == volume.TPM2 && s.TPM2 != nil && s.TPM2.PIN:
			return 2
		case s.Kind == volume.Tang:
			return 1
		}
		return 0
	}
	order := slices.DeleteFunc(slices.Clone(v.Slots), func(s volume.Slot) bool {
		return !s.Way() || s.Kind == volume.Other || len(kinds) > 0 && !slices.Contains(kinds, s.Kind)
	})
	slices.SortStableFunc(order, func(a, b volume.Slot) int { return rank(a) - rank(b) })
	return order
}

func asked(s volume.Slot) bool { return s.Kind == volume.Recovery || s.Kind == volume.Passphrase }

// open obtains the key of one slot and tests it.
func (w *Ways) open(ctx context.Context, v *volume.Volume, slot volume.Slot) (*secret.Memory, error) {
	way, err := w.of(slot)
	if err != nil {
		return nil, err
	}
	key, err := way.Key(ctx, v, slot)
	if err != nil {
		return nil, err
	}
	// The header may have been swapped: the key must be that of its slot.
	if err := w.prove(ctx, v, slot.Number, key.Bytes()); err != nil {
		key.Wipe()
		return nil, err
	}
	return key, nil
}

func (w *Ways) prove(ctx context.Context, v *volume.Volume, slot int, key []byte) error {
	if w.Prove != nil {
		return w.Prove(ctx, v, slot, key)
	}
	return cryptsetup.Test(ctx, v.Device, slot, key)
}

func (w *Ways) of(slot volume.Slot) (Way, error) {
	switch slot.Kind {
	case volume.TPM2:
		return w.TPM, nil
	case volume.Tang:
		return w.Tang, nil
	}
	return nil, fmt.Errorf("a slot of kind %s opens with a typed secret", slot.Kind)
}

// tries is how often a person may type a secret.
const tries = 3

// ask asks for the key of one of the slots whose key a person keeps.
func (w *Ways) ask(ctx context.Context, v *volume.Volume, kinds []volume.Kind, refusals []error) (volume.Slot, *secret.Memory, error) {
	question := question(v, kinds, refusals)
	patient := ctx
	if w.Patience > 0 && slices.ContainsFunc(refusals, OfDeployment) {
		var cancel context.CancelFunc
		patient, cancel = context.WithTimeout(ctx, w.Patience)
		defer cancel()
	}
	for range tries {
		typed, err := w.Ask(patient, question)
		if err != nil && patient.Err() != nil && ctx.Err() == nil {
			return volume.Slot{}, nil, fmt.Errorf("%w: no answer within %s, and another deployment may not have to ask", ErrNobody, w.Patience)
		}
		if err != nil {
			return volume.Slot{}, nil, err
		}
		slot, key, err := w.Typed(ctx, v, typed)
		if err == nil {
			return slot, key, nil
		}
		if !errors.Is(err, cryptsetup.ErrWrongKey) {
			return volume.Slot{}, nil, err
		}
		question = "That does not open " + v.Name() + ". Again:"
	}
	return volume.Slot{}, nil, fmt.Errorf("asked %d times: %w", tries, cryptsetup.ErrWrongKey)
}

// question returns the question, with the reason for it: a person in front of a machine
// that doesn't start sees only this line.
func question(v *volume.Volume, kinds []volume.Kind, refusals []error) string {
	what := "Recovery key or passphrase"
	if len(kinds) == 1 {
		what = map[volume.Kind]string{volume.Recovery: "Recovery key", volume.Passphrase: "Passphrase"}[kinds[0]]
	}
	if len(refusals) == 0 {
		return fmt.Sprintf("%s of %s:", what, v.Name())
	}
	var why []string
	for _, err := range refusals {
		why = append(why, err.Error())
	}
	return fmt.Sprintf("%s was not unlocked (%s). %s:", v.Name(), strings.Join(why, "; "), what)
}

// Typed finds the slot that a typed secret opens: a recovery key in any of its
// spellings, or a passphrase. It takes ownership of the memory.
func (w *Ways) Typed(ctx context.Context, v *volume.Volume, typed *secret.Memory) (volume.Slot, *secret.Memory, error) {
	candidates := []*secret.Memory{typed}
	if key, err := secret.ParseRecoveryKey(typed.Bytes()); err == nil {
		normal, err := secret.Take(key)
		if err != nil {
			typed.Wipe()
			return volume.Slot{}, nil, err
		}
		candidates = []*secret.Memory{normal, typed}
	}
	defer func() {
		for _, c := range candidates {
			c.Wipe()
		}
	}()
	for i, candidate := range candidates {
		for _, slot := range v.Slots {
			if !asked(slot) || !slot.Bound {
				continue
			}
			err := w.prove(ctx, v, slot.Number, candidate.Bytes())
			if err == nil {
				candidates = slices.Delete(candidates, i, i+1)
				return slot, candidate, nil
			}
			if !errors.Is(err, cryptsetup.ErrWrongKey) {
				return volume.Slot{}, nil, err
			}
		}
	}
	return volume.Slot{}, nil, fmt.Errorf("%s: %w", v.Device, cryptsetup.ErrWrongKey)
}
