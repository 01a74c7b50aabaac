package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

// Seal seals a secret under the policy that a token describes (its PCRs, bank, public
// key, PIN and salt) and fills in the other fields: blob, policy digest, key. Legacy is
// for systemd before version 254, which knows neither the storage root key nor salts of
// PINs; the caller leaves the salt out.
func (d *Device) Seal(token *luks.TPM2, secret, pin []byte, legacy bool) error {
	if token.PIN != (len(pin) > 0) {
		return errors.New("seal: a policy with a PIN needs one, and only that")
	}
	root, err := d.sealing(legacy)
	if err != nil {
		return err
	}
	defer d.release(root)
	auth, err := authValue(pin, token.Salt)
	if err != nil {
		return err
	}
	defer clear(auth)
	policy, err := d.trial(token)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	area, err := root.public.Contents()
	if err != nil {
		return err
	}
	// There is nothing secret yet that the session could be bound to.
	encrypted := tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, tpm2.Salted(root.handle, *area), tpm2.AESEncryption(8*keySize, tpm2.EncryptIn))
	made, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: root.handle, Name: root.name, Auth: encrypted},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: auth},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			// A PIN is what the TPM's protection against guessing is for.
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: !token.PIN},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy},
		}),
	}.Execute(d.TPM)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	token.Blobs = [][]byte{append(tpm2.Marshal(made.OutPrivate), tpm2.Marshal(made.OutPublic)...)}
	token.Policies = [][]byte{policy}
	if token.Values, err = d.Values(token.Bank, token.PCRs); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	token.PrimaryAlg = "ecc"
	if !legacy {
		token.SRK = root.serialise()
	}
	if area.Type == tpm2.TPMAlgRSA {
		token.PrimaryAlg = "rsa"
	}
	return nil
}

// sealing returns the key to seal with, which the caller releases.
func (d *Device) sealing(legacy bool) (*parent, error) {
	if legacy {
		return d.makeLegacy("ecc")
	}
	return d.makeSRK()
}

// trial computes the digest of a token's policy from the current PCRs. Without any
// policy it is 32 zeros: an empty policy could be satisfied without a session.
func (d *Device) trial(token *luks.TPM2) ([]byte, error) {
	session, closeSession, err := tpm2.PolicySession(d.TPM, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		return nil, err
	}
	defer closeSession()
	if len(token.PublicKey) > 0 {
		signer, err := newSigner(token.PublicKey, 65537)
		if err != nil {
			return nil, err
		}
		_, err = tpm2.PolicyAuthorize{
			PolicySession: session.Handle(), KeySign: signer.name,
			CheckTicket: tpm2.TPMTTKVerified{Tag: tpm2.TPMSTVerified, Hierarchy: tpm2.TPMRHOwner},
		}.Execute(d.TPM)
		if err != nil {
			return nil, fmt.Errorf("signed policy: %w", err)
		}
	}
	if err := d.finish(session.Handle(), token); err != nil {
		return nil, err
	}
	return d.digest(session.Handle())
}

// finish adds the parts of a policy that follow the signed part.
func (d *Device) finish(session tpm2.TPMHandle, token *luks.TPM2) error {
	if len(token.PCRs) > 0 {
		if err := d.pcrs(session, token.Bank, token.PCRs); err != nil {
			return err
		}
	}
	if token.PIN {
		_, err := tpm2.PolicyAuthValue{PolicySession: session}.Execute(d.TPM)
		return err
	}
	return nil
}

// Unseal returns a token's secret, which the caller wipes. signatures are those of the
// booted UKI for the token's bank. Errors are those of this package where the reason is
// known.
func (d *Device) Unseal(token *luks.TPM2, signatures []Signature, pin []byte) ([]byte, error) {
	if token.PIN && len(pin) == 0 {
		return nil, fmt.Errorf("unseal: %w: none was given", ErrPIN)
	}
	auth, err := authValue(pin, token.Salt)
	if err != nil {
		return nil, err
	}
	defer clear(auth)
	var secret []byte
	err = d.satisfy(token, signatures, auth, func(session *session, object *tpm2.NamedHandle) error {
		answer, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.Handle, Name: object.Name, Auth: session}}.Execute(d.TPM)
		if err == nil {
			secret = answer.OutData.Buffer
		}
		return err
	})
	return secret, err
}

// Check reports whether the TPM would unseal a token's secret now, given the right PIN
// if there is one, without unsealing it. It returns the error of Unseal.
func (d *Device) Check(token *luks.TPM2, signatures []Signature) error {
	return d.satisfy(token, signatures, nil, func(*session, *tpm2.NamedHandle) error { return nil })
}

// satisfy loads a token's object, satisfies its policy in a session, and passes the
// session to then.
func (d *Device) satisfy(token *luks.TPM2, signatures []Signature, auth []byte, then func(*session, *tpm2.NamedHandle) error) error {
	switch {
	case len(token.Blobs) != 1 || len(token.Policies) != 1:
		return fmt.Errorf("unseal: %w: its secret is in several shares", ErrForm)
	case token.PCRLock:
		return fmt.Errorf("unseal: %w: it is bound to systemd-pcrlock", ErrForm)
	case token.PIN && token.Argon2id: // known before the TPM counts a wrong PIN
		return fmt.Errorf("unseal: %w: its PIN is hashed by Argon2id, as from systemd 262 on", ErrForm)
	}
	root, err := d.enrolled(token)
	if err != nil {
		return explain(err)
	}
	defer d.release(root)
	object, err := d.load(root, token.Blobs[0])
	if err != nil {
		return explain(err)
	}
	defer d.flush(object.Handle)
	exponents := []uint32{65537}
	if len(token.PublicKey) > 0 {
		exponents = append(exponents, 0)
	}
	for _, exponent := range exponents {
		err := d.attempt(root, object, token, exponent, signatures, auth, then)
		if !errors.Is(err, errDigest) {
			return explain(err)
		}
	}
	return fmt.Errorf("unseal: %w", d.refusal(token))
}

// enrolled returns the key that sealed a token, which the caller releases. Where the
// token names the key, a session is never salted with another key from the bus.
func (d *Device) enrolled(token *luks.TPM2) (*parent, error) {
	if token.SRK == nil {
		return d.makeLegacy(token.PrimaryAlg)
	}
	root, err := d.findSRK()
	if err != nil {
		return nil, err
	}
	enrolled, err := parseSRK(token.SRK)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(enrolled.name.Buffer, root.name.Buffer) {
		return nil, ErrOther
	}
	return enrolled, nil
}

// errDigest says that the session's policy digest is not the object's.
var errDigest = errors.New("policy digest differs")

// attempt satisfies the policy with one form of the public key.
func (d *Device) attempt(root *parent, object *tpm2.NamedHandle, token *luks.TPM2, exponent uint32, signatures []Signature, auth []byte,
	then func(*session, *tpm2.NamedHandle) error) error {
	session, err := d.newSession(root, object, auth)
	if err != nil {
		return err
	}
	defer d.close(session)
	if len(token.PublicKey) > 0 {
		signer, err := newSigner(token.PublicKey, exponent)
		if err != nil {
			return err
		}
		if err := d.pcrs(session.handle, token.Bank, token.PublicPCRs); err != nil {
			return err
		}
		if err := d.authorize(session.handle, signer, token, signatures); err != nil {
			return err
		}
	}
	if err := d.finish(session.handle, token); err != nil {
		return err
	}
	now, err := d.digest(session.handle)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, token.Policies[0]) {
		return errDigest
	}
	return then(session, object)
}

// load loads a sealed object: TPM2B_PRIVATE‖TPM2B_PUBLIC.
func (d *Device) load(root *parent, blob []byte) (*tpm2.NamedHandle, error) {
	private, rest, ok := sized(blob)
	if !ok {
		return nil, errors.New("tpm2-blob: not a private area")
	}
	public, rest, ok := sized(rest)
	if !ok || len(rest) != 0 {
		return nil, errors.New("tpm2-blob: not a public area at its end")
	}
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.NamedHandle{Handle: root.handle, Name: root.name},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: private[2:]},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](public[2:]),
	}.Execute(d.TPM)
	if err != nil {
		return nil, err
	}
	return &tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, nil
}

// explain translates a TPM's response code for people.
func explain(err error) error {
	if err == nil {
		return nil
	}
	for code, why := range map[tpm2.TPMRC]error{
		tpm2.TPMRCLockout: ErrLockout, tpm2.TPMRCAuthFail: ErrPIN, tpm2.TPMRCPolicyFail: ErrPolicy,
		tpm2.TPMRCIntegrity: ErrOther, tpm2.TPMRCHandle: ErrOther,
	} {
		if errors.Is(err, code) {
			return fmt.Errorf("unseal: %w (%v)", why, err)
		}
	}
	return fmt.Errorf("unseal: %w", err)
}
