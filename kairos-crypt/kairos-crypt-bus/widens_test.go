package main

import (
	"slices"
	"testing"
)

// A rule that lets somebody bind a volume to its TPM anew gives no key to the
// data: io.kairos.Crypt1(5), "Authorization".
func TestWhatWidensARequest(t *testing.T) {
	type details = map[string]string
	const secret, pcrs = action + "add-secret", action + "choose-pcrs"
	for _, test := range []struct {
		widens  func(map[string]string) []string
		details details
		want    []string
	}{
		{widensEnroll, details{"kind": "tpm2"}, nil},
		{widensEnroll, details{"kind": "tpm2", "pin": "file descriptor"}, nil},
		{widensEnroll, details{"kind": "tpm2", "pcrs": ""}, []string{pcrs}},
		{widensEnroll, details{"kind": "tpm2", "bank": "sha1"}, []string{pcrs}},
		{widensEnroll, details{"kind": "recovery"}, []string{secret}},
		{widensEnroll, details{"kind": "passphrase"}, []string{secret}},
		{widensEnroll, details{"kind": "tang", "pcrs": "7"}, []string{secret, pcrs}},
		{widensEnroll, details{}, []string{secret}},
		{widensRotate, details{"slot": "tpm2"}, nil},
		{widensRotate, details{"slot": "0"}, []string{secret}},
		{widensRotate, details{"slot": "recovery"}, []string{secret}},
	} {
		if have := test.widens(test.details); !slices.Equal(have, test.want) {
			t.Errorf("%v: %v, want %v", test.details, have, test.want)
		}
	}
}
