// Package tpm seals the secrets of key slots with a TPM 2.0 and unseals them. It is
// compatible with systemd-cryptenroll(1): each can read what the other wrote.
//
// Commands with a secret or a PIN use an encrypted session that is salted with the
// storage root key, so that a listener on the bus learns nothing. All answers of the
// TPM are checked against the token.
package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Errors on which callers decide. Their texts tell a person why the TPM refuses.
var (
	ErrLockout = errors.New("the TPM is locked after too many wrong PINs")
	ErrPIN     = errors.New("wrong PIN")
	ErrPolicy  = errors.New("the machine has not booted what the key was bound to")
	ErrForm    = errors.New("the key slot is of a form that is not supported")
	ErrOther   = errors.New("the key was sealed by another TPM, or this one has been cleared")
)

// srkHandle is the handle of the storage root key: "TCG TPM v2.0 Provisioning Guidance"
// 7.8. systemd uses the same.
const srkHandle tpm2.TPMHandle = 0x81000001

// Device is an open TPM.
type Device struct {
	TPM transport.TPM
}

// parent is the key that seals: the storage root key, or a legacy primary key.
type parent struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPM2BPublic
}

// release frees the key of findLegacy.
func (d *Device) release(p *parent) {
	if p.handle != srkHandle {
		d.flush(p.handle)
	}
}

// findSRK returns the TPM's storage root key.
func (d *Device) findSRK() (*parent, error) {
	answer, err := tpm2.ReadPublic{ObjectHandle: srkHandle}.Execute(d.TPM)
	if err != nil {
		return nil, fmt.Errorf("read the storage root key: %w", err)
	}
	return newParent(srkHandle, answer.OutPublic)
}

// makeSRK returns the storage root key, and creates it where there is none.
func (d *Device) makeSRK() (*parent, error) {
	found, err := d.findSRK()
	if !errors.Is(err, tpm2.TPMRCHandle) {
		return found, err
	}
	// tpm2.ECCSRKTemplate has zeros in its unique field, where systemd's is
	// empty: that would be another key.
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(d.TPM)
	if err != nil {
		return nil, fmt.Errorf("make the storage root key: %w", err)
	}
	defer d.flush(made.ObjectHandle)
	_, err = tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
		PersistentHandle: srkHandle,
	}.Execute(d.TPM)
	if err != nil {
		return nil, fmt.Errorf("keep the storage root key: %w", err)
	}
	return newParent(srkHandle, made.OutPublic)
}

// makeLegacy creates the key with which systemd before version 254 sealed; the TPM
// derives the same key each time. As the token doesn't name it, the session is salted
// with the public key that the bus returns, as in systemd. The caller releases it.
func (d *Device) makeLegacy(algorithm string) (*parent, error) {
	// tpm2_get_legacy_template in systemd's src/shared/tpm2-util.c.
	symmetric := tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(128)),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
	template := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, Decrypt: true,
		},
	}
	if algorithm == "rsa" {
		template.Type = tpm2.TPMAlgRSA
		template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: symmetric, KeyBits: 2048,
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull}})
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	} else {
		template.Type = tpm2.TPMAlgECC
		template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: symmetric, CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull}, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}})
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(d.TPM)
	if err != nil {
		return nil, fmt.Errorf("make the key of older versions of systemd: %w", err)
	}
	p, err := newParent(made.ObjectHandle, made.OutPublic)
	if err != nil {
		d.flush(made.ObjectHandle)
	}
	return p, err
}

// newParent computes a key's name itself, since the name that came with the key may be
// forged.
func newParent(handle tpm2.TPMHandle, public tpm2.TPM2BPublic) (*parent, error) {
	area, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("the TPM's key: %w", err)
	}
	name, err := tpm2.ObjectName(area)
	if err != nil {
		return nil, fmt.Errorf("the TPM's key: %w", err)
	}
	return &parent{handle, *name, public}, nil
}

// parseSRK reads the key from a token: handle, name, 1, public area.
func parseSRK(raw []byte) (*parent, error) {
	if len(raw) < 4 || binary.BigEndian.Uint32(raw) != uint32(srkHandle) {
		return nil, fmt.Errorf("tpm2_srk: not the key at %#x", uint32(srkHandle))
	}
	name, rest, ok := sized(raw[4:])
	if !ok || len(rest) < 4 || binary.BigEndian.Uint32(rest) != 1 {
		return nil, errors.New("tpm2_srk: not a serialised key")
	}
	public, rest, ok := sized(rest[4:])
	if !ok || len(rest) != 0 {
		return nil, errors.New("tpm2_srk: not a serialised key")
	}
	key, err := newParent(srkHandle, tpm2.BytesAs2B[tpm2.TPMTPublic](public[2:]))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.name.Buffer, name[2:]) {
		return nil, errors.New("tpm2_srk: its name is not that of its key")
	}
	return key, nil
}

// serialise returns the form that parseSRK parses.
func (p *parent) serialise() []byte {
	raw := binary.BigEndian.AppendUint32(nil, uint32(srkHandle))
	raw = append(raw, tpm2.Marshal(p.name)...)
	raw = binary.BigEndian.AppendUint32(raw, 1)
	return append(raw, tpm2.Marshal(p.public)...)
}

func (d *Device) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(d.TPM)
}

// sized splits a TPM2B, with its size, from the bytes after it.
func sized(raw []byte) (value, rest []byte, ok bool) {
	if len(raw) < 2 {
		return nil, nil, false
	}
	end := 2 + int(binary.BigEndian.Uint16(raw))
	if len(raw) < end {
		return nil, nil, false
	}
	return raw[:end], raw[end:], true
}
