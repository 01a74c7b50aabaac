package luks

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

const (
	maxPCR    = 23
	maxShards = 16      // blobs of one token
	maxBlob   = 8 << 10 // bytes of one decoded field
)

// TPM2 is a token of type "systemd-tpm2": a key slot's passphrase, sealed by a
// TPM. The format is systemd's (src/shared/tpm2-util.c, tpm2_make_luks2_json,
// versions 252 to 262).
type TPM2 struct {
	Keyslot    int
	Blobs      [][]byte // TPM2B_PRIVATE‖TPM2B_PUBLIC; more than one when sharded
	Policies   [][]byte // the policy digest of each shard, 32 bytes
	Bank       string   // of the PCRs: "sha256", "sha1", …; "" when none are named
	PrimaryAlg string   // of the key that seals: "ecc" or "rsa"
	PCRs       []int    // PCRs whose values are part of the policy, sorted
	PublicKey  []byte   // PEM of the key that signs policies; nil without one
	PublicPCRs []int    // PCRs that the signed policy covers, sorted
	PIN        bool
	Salt       []byte // of the PIN; nil before systemd 255
	SRK        []byte // handle, name and public area as ESYS writes them; nil before systemd 254
	Argon2id   bool   // the PIN is hashed by Argon2id, from systemd 262 on
	PCRLock    bool   // the policy is in an NV index, see systemd-pcrlock(8)
	PCRLockNV  []byte
	// Values are the values of PCRs at enrollment, which show a person what has
	// changed. systemd does not know the field and ignores it; no decision depends on
	// it.
	Values map[int][]byte
}

// tpm2JSON is the token's JSON. Its mixture of "-" and "_" is systemd's.
type tpm2JSON struct {
	Type       string          `json:"type"`
	Keyslots   []string        `json:"keyslots"`
	Blob       stringOrStrings `json:"tpm2-blob"`
	PCRs       *[]int          `json:"tpm2-pcrs"`
	Bank       string          `json:"tpm2-pcr-bank,omitempty"`
	PrimaryAlg string          `json:"tpm2-primary-alg,omitempty"`
	PolicyHash stringOrStrings `json:"tpm2-policy-hash"`
	PIN        bool            `json:"tpm2-pin,omitempty"`
	PCRLock    bool            `json:"tpm2_pcrlock,omitempty"`
	PublicPCRs []int           `json:"tpm2_pubkey_pcrs,omitempty"`
	PublicKey  base64Bytes     `json:"tpm2_pubkey,omitempty"`
	Salt       base64Bytes     `json:"tpm2_salt,omitempty"`
	SRK        base64Bytes     `json:"tpm2_srk,omitempty"`
	PCRLockNV  base64Bytes     `json:"tpm2_pcrlock_nv,omitempty"`

	Values map[string]base64Bytes `json:"kairos_pcr_values,omitempty"`

	// Argon2id is only read, never written.
	Argon2id struct{ memory, iterations, lanes json.RawMessage } `json:"-"`
}

func (t *tpm2JSON) UnmarshalJSON(text []byte) error {
	return decode(text, fields{
		"tpm2-blob": &t.Blob, "tpm2-pcrs": &t.PCRs, "tpm2-pcr-bank": &t.Bank, "tpm2-primary-alg": &t.PrimaryAlg,
		"tpm2-policy-hash": &t.PolicyHash, "tpm2-pin": &t.PIN, "tpm2_pcrlock": &t.PCRLock,
		"tpm2_pubkey_pcrs": &t.PublicPCRs, "tpm2_pubkey": &t.PublicKey, "tpm2_salt": &t.Salt,
		"tpm2_srk": &t.SRK, "tpm2_pcrlock_nv": &t.PCRLockNV, "kairos_pcr_values": &t.Values,
		"tpm2_argon2id_memcost": &t.Argon2id.memory, "tpm2_argon2id_iterations": &t.Argon2id.iterations, "tpm2_argon2id_lanes": &t.Argon2id.lanes,
	})
}

// ParseTPM2 parses a token of type "systemd-tpm2".
func ParseTPM2(token Token) (*TPM2, error) {
	if token.Type != TypeTPM2 {
		return nil, fmt.Errorf("token of type %q is not %s", token.Type, TypeTPM2)
	}
	if len(token.Keyslots) != 1 {
		return nil, fmt.Errorf("%s token: it names %d key slots, not one", TypeTPM2, len(token.Keyslots))
	}
	var raw tpm2JSON
	if err := json.Unmarshal(token.JSON, &raw); err != nil {
		return nil, fmt.Errorf("%s token: %w", TypeTPM2, err)
	}
	t := &TPM2{
		Keyslot: token.Keyslots[0], Bank: raw.Bank, PrimaryAlg: raw.PrimaryAlg, PIN: raw.PIN,
		PublicKey: raw.PublicKey, Salt: raw.Salt, SRK: raw.SRK,
		PCRLock: raw.PCRLock, PCRLockNV: raw.PCRLockNV,
		Argon2id: raw.Argon2id.memory != nil || raw.Argon2id.iterations != nil || raw.Argon2id.lanes != nil,
	}
	if err := t.fill(&raw); err != nil {
		return nil, fmt.Errorf("%s token: %w", TypeTPM2, err)
	}
	return t, nil
}

// fill decodes and validates the fields that have their own encoding.
func (t *TPM2) fill(raw *tpm2JSON) error {
	var err error
	if t.Blobs, err = shards("tpm2-blob", raw.Blob, base64.StdEncoding.DecodeString); err != nil {
		return err
	}
	if t.Policies, err = shards("tpm2-policy-hash", raw.PolicyHash, hex.DecodeString); err != nil {
		return err
	}
	// Before sharding, one hash stood for all: a single one is accepted with
	// a single blob only.
	if len(t.Policies) != len(t.Blobs) {
		return fmt.Errorf("%d blobs, but %d policy hashes", len(t.Blobs), len(t.Policies))
	}
	for _, policy := range t.Policies {
		if len(policy) != 32 {
			return fmt.Errorf("tpm2-policy-hash: %d bytes, not 32", len(policy))
		}
	}
	if raw.PCRs == nil {
		return errors.New("tpm2-pcrs is missing")
	}
	if t.PCRs, err = pcrs("tpm2-pcrs", *raw.PCRs); err != nil {
		return err
	}
	if t.PublicPCRs, err = pcrs("tpm2_pubkey_pcrs", raw.PublicPCRs); err != nil {
		return err
	}
	values, err := numbered("kairos_pcr_values", raw.Values, maxPCR+1)
	if err != nil {
		return err
	}
	for number, value := range values {
		if t.Values == nil {
			t.Values = map[int][]byte{}
		}
		t.Values[number] = value
	}
	switch t.Bank {
	case "":
		if len(t.PCRs)+len(t.PublicPCRs) > 0 { // systemd 252 leaves it out never, others may
			t.Bank = "sha256"
		}
	case "sha1", "sha256", "sha384", "sha512":
	default:
		return fmt.Errorf("tpm2-pcr-bank %.40q is not known", t.Bank)
	}
	switch t.PrimaryAlg {
	case "": // systemd 250 knew no other
		t.PrimaryAlg = "ecc"
	case "ecc", "rsa":
	default:
		return fmt.Errorf("tpm2-primary-alg %.40q is not known", t.PrimaryAlg)
	}
	if len(t.PublicPCRs) > 0 && len(t.PublicKey) == 0 {
		return errors.New("tpm2_pubkey_pcrs without tpm2_pubkey")
	}
	if len(t.Salt) > 0 && !t.PIN {
		return errors.New("tpm2_salt without tpm2-pin")
	}
	return nil
}

// JSON returns the token as systemd writes it.
func (t *TPM2) JSON() (json.RawMessage, error) {
	raw := tpm2JSON{
		Type: TypeTPM2, Keyslots: []string{strconv.Itoa(t.Keyslot)},
		Bank: t.Bank, PrimaryAlg: t.PrimaryAlg, PIN: t.PIN, PublicPCRs: t.PublicPCRs,
		PublicKey: t.PublicKey, Salt: t.Salt, SRK: t.SRK, PCRLock: t.PCRLock, PCRLockNV: t.PCRLockNV,
	}
	literal := append([]int{}, t.PCRs...) // mandatory, [] rather than null
	raw.PCRs = &literal
	for _, blob := range t.Blobs {
		raw.Blob = append(raw.Blob, base64.StdEncoding.EncodeToString(blob))
	}
	for number, value := range t.Values {
		if raw.Values == nil {
			raw.Values = map[string]base64Bytes{}
		}
		raw.Values[strconv.Itoa(number)] = value
	}
	for _, policy := range t.Policies {
		raw.PolicyHash = append(raw.PolicyHash, hex.EncodeToString(policy))
	}
	return json.Marshal(raw)
}

// shards decodes a field that holds one value or, when sharded, several.
func shards(name string, values []string, decode func(string) ([]byte, error)) ([][]byte, error) {
	if len(values) == 0 || len(values) > maxShards {
		return nil, fmt.Errorf("%s: %d values, not 1 to %d", name, len(values), maxShards)
	}
	var result [][]byte
	for _, value := range values {
		if len(value) > 2*maxBlob {
			return nil, fmt.Errorf("%s: %d characters are too many", name, len(value))
		}
		data, err := decode(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(data) == 0 {
			return nil, fmt.Errorf("%s is empty", name)
		}
		result = append(result, data)
	}
	return result, nil
}

// pcrs checks and sorts a list of PCRs.
func pcrs(name string, numbers []int) ([]int, error) {
	for _, n := range numbers {
		if n < 0 || n > maxPCR {
			return nil, fmt.Errorf("%s: there is no PCR %d", name, n)
		}
	}
	sorted := slices.Sorted(slices.Values(numbers))
	return slices.Compact(sorted), nil
}

// stringOrStrings is a string, or an array of them.
type stringOrStrings []string

func (s *stringOrStrings) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '[' {
		return json.Unmarshal(text, (*[]string)(s))
	}
	var one string
	if err := json.Unmarshal(text, &one); err != nil {
		return err
	}
	*s = stringOrStrings{one}
	return nil
}

func (s stringOrStrings) MarshalJSON() ([]byte, error) {
	if len(s) == 1 {
		return json.Marshal(s[0])
	}
	return json.Marshal([]string(s))
}

// base64Bytes is a bounded field in base64.
type base64Bytes []byte

func (b *base64Bytes) UnmarshalJSON(text []byte) error {
	if len(text) > 2*maxBlob {
		return fmt.Errorf("field of %d characters is too long", len(text))
	}
	return json.Unmarshal(text, (*[]byte)(b))
}
