// Package tpm seals key slots' secrets with a TPM 2.0 and unseals them, in the
// way of systemd-cryptenroll(1), so that either reads what the other wrote.
//
// What a secret or a PIN goes through is an encrypted session: salted with the
// storage root key, so that a listener on the bus learns nothing. Everything
// that the TPM answers is checked against what the token says.
package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// What a caller decides upon. Each says to a person why the TPM refuses.
var (
	ErrLockout = errors.New("the TPM is locked after too many wrong PINs")
	ErrPIN     = errors.New("wrong PIN")
	ErrPolicy  = errors.New("the machine has not booted what the key was bound to")
	ErrForm    = errors.New("the key slot is of a form that is not supported")
	ErrOther   = errors.New("the key was sealed by another TPM, or this one has been cleared")
)

// srkHandle is where the storage root key is kept: "TCG TPM v2.0 Provisioning
// Guidance" 7.8. systemd uses the same.
const srkHandle tpm2.TPMHandle = 0x81000001

// Device is an open TPM.
type Device struct {
	TPM transport.TPM
}

// parent is the key that seals: the storage root key, or a legacy one.
type parent struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPM2BPublic
}

// release ends what findLegacy began.
func (d *Device) release(p *parent) {
	if p.handle != srkHandle {
		d.flush(p.handle)
	}
}

// findSRK returns the storage root key that the TPM has.
func (d *Device) findSRK() (*parent, error) {
	answer, err := tpm2.ReadPublic{ObjectHandle: srkHandle}.Execute(d.TPM)
	if err != nil {
		return nil, fmt.Errorf("read the storage root key: %w", err)
	}
	return newParent(srkHandle, answer.OutPublic)
}

// makeSRK returns the storage root key, and makes it where there is none.
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

// makeLegacy makes the key that systemd before version 254 sealed with, anew each
// time: the TPM derives the same one. A token doesn't name it, so that a session
// is salted with what the bus says it is; systemd does no better. The caller
// releases it.
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

// newParent computes a key's name itself: the one that came with it is a claim.
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

// serialise is the reverse of parseSRK.
func (p *parent) serialise() []byte {
	raw := binary.BigEndian.AppendUint32(nil, uint32(srkHandle))
	raw = append(raw, tpm2.Marshal(p.name)...)
	raw = binary.BigEndian.AppendUint32(raw, 1)
	return append(raw, tpm2.Marshal(p.public)...)
}

func (d *Device) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(d.TPM)
}

// sized splits a TPM2B, with its size, from what follows it.
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
