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
	ErrOther   = errors.New("the key was sealed by another TPM, or this one has been cleared")
)

// srkHandle is where the storage root key is kept: "TCG TPM v2.0 Provisioning
// Guidance" 7.8. systemd uses the same.
const srkHandle tpm2.TPMHandle = 0x81000001

// Device is an open TPM.
type Device struct {
	TPM transport.TPM
}

// srk is the storage root key.
type srk struct {
	name   tpm2.TPM2BName
	public tpm2.TPM2BPublic
}

// findSRK returns the storage root key that the TPM has.
func (d *Device) findSRK() (*srk, error) {
	answer, err := tpm2.ReadPublic{ObjectHandle: srkHandle}.Execute(d.TPM)
	if err != nil {
		return nil, fmt.Errorf("read the storage root key: %w", err)
	}
	return newSRK(answer.OutPublic)
}

// makeSRK returns the storage root key, and makes it where there is none.
func (d *Device) makeSRK() (*srk, error) {
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
	return newSRK(made.OutPublic)
}

// newSRK computes a key's name itself: the one that came with it is a claim.
func newSRK(public tpm2.TPM2BPublic) (*srk, error) {
	area, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("storage root key: %w", err)
	}
	name, err := tpm2.ObjectName(area)
	if err != nil {
		return nil, fmt.Errorf("storage root key: %w", err)
	}
	return &srk{*name, public}, nil
}

// parseSRK reads the key from a token: handle, name, 1, public area.
func parseSRK(raw []byte) (*srk, error) {
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
	key, err := newSRK(tpm2.BytesAs2B[tpm2.TPMTPublic](public[2:]))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.name.Buffer, name[2:]) {
		return nil, errors.New("tpm2_srk: its name is not that of its key")
	}
	return key, nil
}

// serialise is the reverse of parseSRK.
func (s *srk) serialise() []byte {
	raw := binary.BigEndian.AppendUint32(nil, uint32(srkHandle))
	raw = append(raw, tpm2.Marshal(s.name)...)
	raw = binary.BigEndian.AppendUint32(raw, 1)
	return append(raw, tpm2.Marshal(s.public)...)
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
