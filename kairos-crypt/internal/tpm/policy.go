package tpm

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

// Signature is one signed policy, as systemd-measure(1) prints it by bank.
type Signature struct {
	PCRs        []int  `json:"pcrs"`
	Fingerprint string `json:"pkfp"` // hex, SHA-256 of the public key in PKCS #1 DER
	Policy      string `json:"pol"`  // hex, the digest of the PCR policy
	Signature   []byte `json:"sig"`
}

// maxSignatures is the maximum size of a signature file in bytes; systemd-stub passes
// some KiB.
const maxSignatures = 1 << 20

// ParseSignatures parses tpm2-pcr-signature.json: signatures by bank.
func ParseSignatures(text []byte) (map[string][]Signature, error) {
	if len(text) > maxSignatures {
		return nil, fmt.Errorf("signed policies of %d bytes: at most %d are allowed", len(text), maxSignatures)
	}
	var signatures map[string][]Signature
	if err := json.Unmarshal(text, &signatures); err != nil {
		return nil, fmt.Errorf("signed policies: %w", err)
	}
	return signatures, nil
}

// authValue converts a PIN to the sealed object's authorization value: systemd hashes
// it with a salt since version 255, and without one before.
func authValue(pin, salt []byte) ([]byte, error) {
	if len(pin) == 0 {
		return nil, nil
	}
	if len(salt) > 0 {
		key, err := pbkdf2.Key(sha256.New, string(pin), salt, 10000, 32)
		if err != nil {
			return nil, err
		}
		pin = base64.StdEncoding.AppendEncode(nil, key)
	}
	sum := sha256.Sum256(pin)
	return bytes.TrimRight(sum[:], "\x00"), nil // as the TPM keeps it: part 1, 19.6.5
}

// signer is the public key that verifies signed policies.
type signer struct {
	public      tpm2.TPMTPublic
	name        tpm2.TPM2BName
	fingerprint string
}

// Fingerprint returns the fingerprint by which signatures name a public key, in hex.
func Fingerprint(text []byte) (string, error) {
	_, fingerprint, err := parseKey(text)
	return fingerprint, err
}

// parseKey reads a public key in PEM.
func parseKey(text []byte) (*rsa.PublicKey, string, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, "", errors.New("public key of policies: not PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("public key of policies: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.E != 65537 {
		return nil, "", errors.New("public key of policies: only RSA with exponent 65537 is supported")
	}
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(key)) // systemd: pubkey_fingerprint
	return key, hex.EncodeToString(sum[:]), nil
}

// newSigner returns the signer for a key. Its exponent is 65537 or, as some versions of
// systemd wrote it, 0 for the same: the key's name differs.
func newSigner(text []byte, exponent uint32) (*signer, error) {
	key, sum, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	s := &signer{fingerprint: sum}
	s.public = tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, Decrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			KeyBits: tpm2.TPMKeyBits(key.N.BitLen()), Exponent: exponent,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
	}
	parms, err := s.public.Parameters.RSADetail()
	if err != nil {
		return nil, err
	}
	parms.Symmetric.Algorithm, parms.Scheme.Scheme = tpm2.TPMAlgNull, tpm2.TPMAlgNull
	name, err := tpm2.ObjectName(&s.public)
	if err != nil {
		return nil, err
	}
	s.name = *name
	return s, nil
}

// authorize replaces the session's policy, which covers the signed PCRs, by the policy
// of everything that this key has signed: TPM2_PolicyAuthorize.
func (d *Device) authorize(session tpm2.TPMHandle, s *signer, token *luks.TPM2, signatures []Signature) error {
	now, err := d.digest(session)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(signatures, func(c Signature) bool {
		return c.Fingerprint == s.fingerprint && c.Policy == hex.EncodeToString(now) && slices.Equal(c.PCRs, token.PublicPCRs)
	})
	if at < 0 {
		return d.unsigned(token, s)
	}
	key, err := tpm2.LoadExternal{InPublic: tpm2.New2B(s.public), Hierarchy: tpm2.TPMRHOwner}.Execute(d.TPM)
	if err != nil {
		return fmt.Errorf("load the public key of policies: %w", err)
	}
	defer d.flush(key.ObjectHandle)
	sum := sha256.Sum256(now)
	ticket, err := tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: s.name},
		Digest:    tpm2.TPM2BDigest{Buffer: sum[:]},
		Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
			&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signatures[at].Signature}})},
	}.Execute(d.TPM)
	if err != nil {
		return fmt.Errorf("signed policy: %w", err)
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: session, ApprovedPolicy: tpm2.TPM2BDigest{Buffer: now},
		KeySign: s.name, CheckTicket: ticket.Validation,
	}.Execute(d.TPM)
	return err
}

// pcrs adds the current values of PCRs to a session's policy.
func (d *Device) pcrs(session tpm2.TPMHandle, bank string, numbers []int) error {
	selected, err := selection(bank, numbers)
	if err != nil {
		return err
	}
	_, err = tpm2.PolicyPCR{PolicySession: session, Pcrs: selected}.Execute(d.TPM)
	if err != nil {
		return fmt.Errorf("policy of PCRs %v: %w", numbers, err)
	}
	return nil
}

func (d *Device) digest(session tpm2.TPMHandle) ([]byte, error) {
	answer, err := tpm2.PolicyGetDigest{PolicySession: session}.Execute(d.TPM)
	if err != nil {
		return nil, fmt.Errorf("policy digest: %w", err)
	}
	return answer.PolicyDigest.Buffer, nil
}
