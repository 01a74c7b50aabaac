package tpm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

// Refusal is an ErrPolicy with the PCRs that have changed.
type Refusal struct {
	PCRs []int // those that have changed since enrollment, or that may have where the token has no values
	Why  string
}

// Error says why the TPM refuses.
func (r *Refusal) Error() string { return ErrPolicy.Error() + ": " + r.Why }

// Unwrap returns ErrPolicy.
func (r *Refusal) Unwrap() error { return ErrPolicy }

// ofDeployment are the PCRs of objects that belong to a deployment: boot loader and
// kernel, initrd, unified kernel image, command line, extensions. All others stay the
// same when another deployment boots.
var ofDeployment = []int{4, 9, 11, 12, 13}

// OfDeployment reports whether another deployment could be accepted: only PCRs that a
// deployment determines have changed, as far as is known.
func (r *Refusal) OfDeployment() bool {
	return len(r.PCRs) > 0 && !slices.ContainsFunc(r.PCRs, func(pcr int) bool { return !slices.Contains(ofDeployment, pcr) })
}

// refusal returns the literal PCRs that have changed since enrollment. A token of
// systemd has no values: any of them may have changed.
func (d *Device) refusal(token *luks.TPM2) *Refusal {
	unknown := &Refusal{token.PCRs, fmt.Sprintf("one of PCRs %s has changed since enrolment", List(token.PCRs))}
	now, err := d.Values(token.Bank, token.PCRs)
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(token.Values)), token.PCRs) {
		return unknown
	}
	var different []int
	for _, n := range token.PCRs {
		if !bytes.Equal(now[n], token.Values[n]) {
			different = append(different, n)
		}
	}
	switch len(different) {
	case 0: // its values are not those that the policy was made of
		return unknown
	case 1:
		return &Refusal{different, fmt.Sprintf("PCR %d (%s) has changed since enrolment", different[0], Meaning(different[0]))}
	}
	return &Refusal{different, fmt.Sprintf("PCRs %s have changed since enrolment", List(different))}
}

// unsigned returns the error that no signature covers the current values of the signed
// PCRs, with the literal PCRs that have changed too.
func (d *Device) unsigned(token *luks.TPM2, s *signer) *Refusal {
	r := &Refusal{slices.Clone(token.PublicPCRs), fmt.Sprintf("no signature by key %.12s for the present value of PCR %s", s.fingerprint, List(token.PublicPCRs))}
	now, err := d.Values(token.Bank, token.PCRs)
	for _, n := range token.PCRs {
		if err != nil || !bytes.Equal(now[n], token.Values[n]) {
			r.PCRs = append(r.PCRs, n)
		}
	}
	return r
}
