package tpm

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// session is the policy session that unseals. It is salted with the storage root key
// and bound to the sealed object, and its answers are encrypted: "TPM 2.0 Library" part
// 1, 17 to 19.
//
// tpm2.PolicySession truncates an authorization value at its first zero byte in the
// HMAC key (version 0.9.8), so that one PIN in eight would count as wrong.
type session struct {
	handle      tpm2.TPMHandle
	key         []byte // session key
	auth        []byte // the object's authorization value, without trailing zeros
	nonceCaller []byte
	nonceTPM    []byte
	answer      []byte // last decrypted parameter, in a buffer of go-tpm
}

const (
	nonceSize = 16
	keySize   = 16 // of an AES-128 key, in bytes
)

// newSession starts a session. The caller closes it.
func (d *Device) newSession(root *parent, object *tpm2.NamedHandle, auth []byte) (*session, error) {
	area, err := root.public.Contents()
	if err != nil {
		return nil, err
	}
	peer, err := tpm2.ImportEncapsulationKey(area)
	if err != nil {
		return nil, fmt.Errorf("the TPM's key: %w", err)
	}
	salt, encrypted, err := tpm2.CreateEncryptedSalt(rand.Reader, peer)
	if err != nil {
		return nil, fmt.Errorf("salt of the session: %w", err)
	}
	defer clear(salt)
	s := &session{auth: auth, nonceCaller: make([]byte, nonceSize)}
	_ = s.NewNonceCaller()
	answer, err := tpm2.StartAuthSession{
		TPMKey: root.handle, Bind: object.Handle,
		NonceCaller:   tpm2.TPM2BNonce{Buffer: s.nonceCaller},
		EncryptedSalt: tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
		SessionType:   tpm2.TPMSEPolicy, AuthHash: tpm2.TPMAlgSHA256,
		Symmetric: tpm2.TPMTSymDef{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(8*keySize)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
	}.Execute(d.TPM)
	if err != nil {
		return nil, err
	}
	s.handle = tpm2.TPMHandle(answer.SessionHandle.HandleValue())
	s.nonceTPM = answer.NonceTPM.Buffer
	secret := append(append(make([]byte, 0, len(auth)+len(salt)), auth...), salt...)
	defer clear(secret)
	s.key = tpm2.KDFa(crypto.SHA256, secret, "ATH", s.nonceTPM, s.nonceCaller, 8*sha256.Size)
	return s, nil
}

// close ends the session and wipes its keys.
func (d *Device) close(s *session) {
	d.flush(s.handle)
	clear(s.key)
	clear(s.answer)
}

// attributes of the session: it continues until it is closed, and the answer is
// encrypted.
var attributes = tpm2.TPMASession{ContinueSession: true, Encrypt: true}

// secret returns the key of HMAC and encryption: the session key, and the authorization
// value if the policy needs it.
func (s *session) secret() []byte {
	return append(append(make([]byte, 0, len(s.key)+len(s.auth)), s.key...), s.auth...)
}

func (s *session) hmac(hash []byte, newer, older, attributes []byte) []byte {
	key := s.secret()
	defer clear(key)
	mac := hmac.New(sha256.New, key)
	for _, part := range [][]byte{hash, newer, older, attributes} {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// What follows makes it a tpm2.Session.

func (s *session) Init(transport.TPM) error           { return nil }
func (s *session) CleanupFailure(transport.TPM) error { return nil }
func (s *session) NonceTPM() tpm2.TPM2BNonce          { return tpm2.TPM2BNonce{Buffer: s.nonceTPM} }
func (s *session) IsEncryption() bool                 { return true }
func (s *session) IsDecryption() bool                 { return false }
func (s *session) Encrypt([]byte) error               { return nil }
func (s *session) Handle() tpm2.TPMHandle             { return s.handle }

func (s *session) NewNonceCaller() error {
	_, err := rand.Read(s.nonceCaller) // never fails: the program ends instead
	return err
}

// Authorize computes the HMAC of a command: part 1, 19.6.5.
func (s *session) Authorize(command tpm2.TPMCC, parameters, addNonces []byte, names []tpm2.TPM2BName, _ int) (*tpm2.TPMSAuthCommand, error) {
	hash := sha256.New()
	_ = binary.Write(hash, binary.BigEndian, command)
	for _, name := range names {
		hash.Write(name.Buffer)
	}
	hash.Write(parameters)
	return &tpm2.TPMSAuthCommand{
		Handle: s.handle, Nonce: tpm2.TPM2BNonce{Buffer: s.nonceCaller}, Attributes: attributes,
		Authorization: tpm2.TPM2BData{
			Buffer: s.hmac(hash.Sum(nil), s.nonceCaller, append(s.nonceTPM[:len(s.nonceTPM):len(s.nonceTPM)], addNonces...), tpm2.Marshal(attributes)),
		},
	}, nil
}

// Validate checks the HMAC of an answer, and takes its nonce.
func (s *session) Validate(status tpm2.TPMRC, command tpm2.TPMCC, parameters []byte, _ []tpm2.TPM2BName, _ int, answer *tpm2.TPMSAuthResponse) error {
	s.nonceTPM = answer.Nonce.Buffer
	hash := sha256.New()
	_ = binary.Write(hash, binary.BigEndian, status)
	_ = binary.Write(hash, binary.BigEndian, command)
	hash.Write(parameters)
	want := s.hmac(hash.Sum(nil), s.nonceTPM, s.nonceCaller, tpm2.Marshal(answer.Attributes))
	if !hmac.Equal(want, answer.Authorization.Buffer) {
		return errors.New("the answer does not come from the TPM: its HMAC is wrong")
	}
	return nil
}

// Decrypt decrypts the first parameter of an answer in place: part 1, 21.
func (s *session) Decrypt(parameter []byte) error {
	s.answer = parameter
	secret := s.secret()
	defer clear(secret)
	key := tpm2.KDFa(crypto.SHA256, secret, "CFB", s.nonceTPM, s.nonceCaller, 8*(keySize+aes.BlockSize))
	defer clear(key)
	block, err := aes.NewCipher(key[:keySize])
	if err != nil {
		return err
	}
	//lint:ignore SA1019 the specification of the TPM has no other mode
	cipher.NewCFBDecrypter(block, key[keySize:]).XORKeyStream(parameter, parameter)
	return nil
}
