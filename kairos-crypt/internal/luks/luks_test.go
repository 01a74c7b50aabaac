package luks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// systemd257 is what cryptsetup 2.7 prints of a volume on which
// systemd-cryptenroll 257 enrolled PCRs 4 and 7, a PIN, and a recovery key.
func systemd257(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/systemd-257.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSystemdTokens(t *testing.T) {
	metadata, err := ParseMetadata(systemd257(t))
	if err != nil {
		t.Fatal(err)
	}
	if slots := metadata.Bound(); !slices.Equal(slots, []int{0, 1, 2, 3}) {
		t.Errorf("slots %v", slots)
	}
	if token := metadata.Tokens[2]; token.Type != TypeRecovery || !slices.Equal(token.Keyslots, []int{3}) {
		t.Errorf("recovery token %+v", token)
	}
	literal, err := ParseTPM2(metadata.Tokens[0])
	if err != nil {
		t.Fatal(err)
	}
	if literal.Keyslot != 1 || !slices.Equal(literal.PCRs, []int{4, 7}) || literal.Bank != "sha256" ||
		literal.PrimaryAlg != "ecc" || literal.PIN || literal.Salt != nil || len(literal.SRK) == 0 {
		t.Errorf("literal PCRs: %+v", literal)
	}
	pin, err := ParseTPM2(metadata.Tokens[1])
	if err != nil {
		t.Fatal(err)
	}
	if !pin.PIN || len(pin.Salt) != 32 || len(pin.PCRs) != 0 {
		t.Errorf("PIN: %+v", pin)
	}
}

// What is written is what systemd writes: the same fields with the same values.
func TestTPM2WritesAsSystemd(t *testing.T) {
	metadata, err := ParseMetadata(systemd257(t))
	if err != nil {
		t.Fatal(err)
	}
	for number := range 2 {
		token, err := ParseTPM2(metadata.Tokens[number])
		if err != nil {
			t.Fatal(err)
		}
		ours, err := token.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var got, want map[string]any
		if err := json.Unmarshal(ours, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(metadata.Tokens[number].JSON, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("token %d\n got %v\nwant %v", number, got, want)
		}
	}
}

func TestTPM2Forms(t *testing.T) {
	hash := strings.Repeat("00", 32)
	for _, test := range []struct{ name, text, want string }{
		{"oldest", `{"tpm2-blob":"AAE=","tpm2-pcrs":[7],"tpm2-policy-hash":"` + hash + `"}`, ""},
		{"sharded", `{"tpm2-blob":["AAE=","AAI="],"tpm2-pcrs":[],"tpm2-policy-hash":["` + hash + `","` + hash + `"]}`, ""},
		{"shard without a policy", `{"tpm2-blob":["AAE=","AAI="],"tpm2-pcrs":[],"tpm2-policy-hash":"` + hash + `"}`, "2 blobs, but 1"},
		{"too many shards", `{"tpm2-blob":["` + strings.Repeat(`AAE=","`, 16) + `AAE="],"tpm2-pcrs":[],"tpm2-policy-hash":"` + hash + `"}`, "17 values"},
		{"empty array", `{"tpm2-blob":[],"tpm2-pcrs":[],"tpm2-policy-hash":"` + hash + `"}`, "0 values"},
		{"gigantic", `{"tpm2-blob":"` + strings.Repeat("A", 4*maxBlob) + `","tpm2-pcrs":[],"tpm2-policy-hash":"` + hash + `"}`, "too many"},
		{"no PCRs", `{"tpm2-blob":"AAE=","tpm2-policy-hash":"` + hash + `"}`, "tpm2-pcrs is missing"},
		{"PCR 24", `{"tpm2-blob":"AAE=","tpm2-pcrs":[24],"tpm2-policy-hash":"` + hash + `"}`, "no PCR 24"},
		{"short policy", `{"tpm2-blob":"AAE=","tpm2-pcrs":[],"tpm2-policy-hash":"00"}`, "1 bytes, not 32"},
		{"bank", `{"tpm2-blob":"AAE=","tpm2-pcrs":[],"tpm2-policy-hash":"` + hash + `","tpm2-pcr-bank":"md5"}`, `"md5" is not known`},
		{"signed without a key", `{"tpm2-blob":"AAE=","tpm2-pcrs":[],"tpm2-policy-hash":"` + hash + `","tpm2_pubkey_pcrs":[11]}`, "without tpm2_pubkey"},
	} {
		token, err := ParseTPM2(Token{Type: TypeTPM2, Keyslots: []int{1}, JSON: []byte(test.text)})
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want == "" && len(token.Blobs) != len(token.Policies):
			t.Errorf("%s: %+v", test.name, token)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// A header means here what it means to cryptsetup, whose names are exact and
// of whose equal names the last one counts.
func TestExactNames(t *testing.T) {
	metadata, err := ParseMetadata([]byte(`{"keyslots":{"0":{"type":"luks2","KDF":{"type":"x"},"kdf":{"type":"argon2id","Type":"y"}},"1":{}},
		"Keyslots":{"2":{}},"tokens":{"0":{"type":"a","keyslots":["0"]},"1":{"type":"b","keyslots":[]}},
		"tokens":{"0":{"type":"c","Type":"d","keyslots":["1"],"KEYSLOTS":["0"],"type":"e"}},"DIGESTS":{"0":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(metadata.Keyslots) != 2 || metadata.Keyslots[0].KDF != "argon2id" || len(metadata.Digests) != 0 {
		t.Errorf("key slots %+v, digests %+v", metadata.Keyslots, metadata.Digests)
	}
	if token := metadata.Tokens[0]; len(metadata.Tokens) != 1 || token.Type != "e" || !slices.Equal(token.Keyslots, []int{1}) {
		t.Errorf("tokens %+v", metadata.Tokens)
	}
	token, err := ParseTPM2(Token{Type: TypeTPM2, Keyslots: []int{1}, JSON: []byte(`{"tpm2-blob":"AAE=","tpm2-pcrs":[7],"TPM2-PCRS":[],
		"tpm2-policy-hash":"` + strings.Repeat("00", 32) + `","Tpm2-Pin":true}`)})
	if err != nil || !slices.Equal(token.PCRs, []int{7}) || token.PIN {
		t.Errorf("token %+v, error %v", token, err)
	}
}

func TestClevis(t *testing.T) {
	protected := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ECDH-ES","clevis":{"pin":"tang","tang":{"url":"http://keys.example.com"}}}`))
	compact := protected + "..aXY.Y2lwaGVy.dGFn"
	text, err := FromJWE(3, []byte(compact+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	clevis, err := ParseClevis(Token{Type: TypeClevis, Keyslots: []int{3}, JSON: text})
	if err != nil || clevis.Pin != "tang" || clevis.URL != "http://keys.example.com" || clevis.JWE != compact {
		t.Errorf("read %+v, error %v", clevis, err)
	}
	for _, bad := range []string{`{"jwe":{}}`, `{}`, `{"jwe":{"protected":"e30","ciphertext":"a b","tag":"x"}}`, `{"jwe":{"protected":"!","ciphertext":"a","tag":"x"}}`} {
		if clevis, err := ParseClevis(Token{Type: TypeClevis, Keyslots: []int{3}, JSON: []byte(bad)}); err == nil {
			t.Errorf("%s: read as %+v", bad, clevis)
		}
	}
	if _, err := FromJWE(3, []byte("not a JWE")); err == nil {
		t.Error("FromJWE takes anything")
	}
}

func FuzzClevis(f *testing.F) {
	f.Add([]byte(`{"type":"clevis","keyslots":["1"],"jwe":{"protected":"eyJjbGV2aXMiOnsicGluIjoidGFuZyIsInRhbmciOnsidXJsIjoiaHR0cDovL2EifX19","encrypted_key":"","iv":"aXY","ciphertext":"Yw","tag":"dA"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := ParseClevis(Token{Type: TypeClevis, Keyslots: []int{1}, JSON: text})
		if err != nil {
			return
		}
		text, err = FromJWE(1, []byte(first.JWE))
		if err != nil {
			t.Fatalf("%v: %q", err, first.JWE)
		}
		if second, err := ParseClevis(Token{Type: TypeClevis, Keyslots: []int{1}, JSON: text}); err != nil || *second != *first {
			t.Fatalf("read %+v, wrote and read %+v, %v", first, second, err)
		}
	})
}

func TestHostileMetadata(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`[]`, "not a JSON object"},
		{`{"keyslots":{"32":{}}}`, "not a number below 32"},
		{`{"keyslots":{"01":{}}}`, "not a number below 32"},
		{`{"keyslots":{"-1":{}}}`, "not a number below 32"},
		{`{"keyslots":{"0":{"key_size":1000000}}}`, "key of 1000000 bytes"},
		{`{"tokens":{"0":{"type":"x","keyslots":["0"]}}}`, "0 does not exist"},
		{`{"keyslots":{"0":{}},"tokens":{"0":{"type":"x","keyslots":["0","0"]}}}`, "occurs twice"},
		{`{"tokens":{"0":{"keyslots":[]}}}`, "no type"},
		{`{"tokens":{"0":null}}`, "no type"},
		{`{"digests":{"0":{"segments":["0"]}}}`, "0 does not exist"},
		{`{"tokens":{"0":{"type":"` + strings.Repeat("x", maxToken) + `"}}}`, "at most"},
	} {
		if _, err := ParseMetadata([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.60s: error %v, want %q", test.text, err, test.want)
		}
	}
}

// Whatever a header holds, what is accepted can be written and read again.
func FuzzMetadata(f *testing.F) {
	f.Add(systemd257(f))
	f.Add([]byte(`{"keyslots":{"0":{}},"tokens":{"0":{"type":"systemd-tpm2","keyslots":["0"],"tpm2-blob":["AAE="],"tpm2-pcrs":[],"tpm2-policy-hash":["` + strings.Repeat("00", 32) + `"]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		metadata, err := ParseMetadata(text)
		if err != nil {
			return
		}
		for number, token := range metadata.Tokens {
			for _, slot := range token.Keyslots {
				if _, ok := metadata.Keyslots[slot]; !ok || !slices.Contains(metadata.TokensOf(slot), number) {
					t.Fatalf("token %d names slot %d, which is not there", number, slot)
				}
			}
			first, err := ParseTPM2(token)
			if err != nil {
				continue
			}
			text, err := first.JSON()
			if err != nil {
				t.Fatal(err)
			}
			second, err := ParseTPM2(Token{Type: TypeTPM2, Keyslots: token.Keyslots, JSON: text})
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if !slices.EqualFunc(first.Blobs, second.Blobs, bytes.Equal) || !slices.Equal(first.PCRs, second.PCRs) {
				t.Fatalf("read %+v, wrote and read %+v", first, second)
			}
		}
	})
}

// Binary headers of any content are refused or read, never a panic or a huge
// allocation.
func FuzzRead(f *testing.F) {
	f.Add([]byte{})
	head := make([]byte, minHeaderSize)
	copy(head, "LUKS\xba\xbe\x00\x02\x00\x00\x00\x00\x00\x00\x40\x00")
	copy(head[72:], "sha256")
	f.Add(head)
	f.Fuzz(func(t *testing.T, volume []byte) {
		if header, err := Read(bytes.NewReader(volume)); (header == nil) == (err == nil) {
			t.Fatalf("header %v, error %v", header, err)
		}
	})
}
