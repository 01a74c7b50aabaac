package tpm

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

// A storage root key that is accepted is written as it was read.
func FuzzSRK(f *testing.F) {
	text, err := os.ReadFile("../luks/testdata/systemd-257.json")
	if err != nil {
		f.Fatal(err)
	}
	metadata, err := luks.ParseMetadata(text)
	if err != nil {
		f.Fatal(err)
	}
	token, err := luks.ParseTPM2(metadata.Tokens[0])
	if err != nil {
		f.Fatal(err)
	}
	if _, err := parseSRK(token.SRK); err != nil {
		f.Fatal(err)
	}
	f.Add(token.SRK)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if key, err := parseSRK(raw); err == nil && !bytes.Equal(key.serialise(), raw) {
			t.Fatalf("read %x, wrote %x", raw, key.serialise())
		}
	})
}

func FuzzSignatures(f *testing.F) {
	f.Add([]byte(`{"sha256":[{"pcrs":[11],"pkfp":"00","pol":"00","sig":"AAE="}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := ParseSignatures(text); err == nil && !json.Valid(text) {
			t.Fatalf("%q is accepted", text)
		}
	})
}
