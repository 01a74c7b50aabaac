package way

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// ErrNoTPM says that the machine has no usable TPM.
var ErrNoTPM = errors.New("this machine has no TPM 2.0")

// TPM seals and unseals with the machine's TPM.
type TPM struct {
	// Connect opens the TPM; it returns fs.ErrNotExist where there is none.
	Connect func() (transport.TPMCloser, error)
	// Signatures and PublicKeys are the paths of the booted UKI's signed policies and
	// of the key that signs them; the first that exists is used.
	Signatures, PublicKeys []string
	Ask                    Asker
}

// use calls a function with the open TPM.
func (t *TPM) use(do func(*tpm.Device) error) error {
	connection, err := t.Connect()
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoTPM
	}
	if err != nil {
		return fmt.Errorf("open the TPM: %w", err)
	}
	defer connection.Close()
	return do(&tpm.Device{TPM: connection})
}

// Present returns nil, or ErrNoTPM where there is no TPM.
func (t *TPM) Present() error { return t.use(func(*tpm.Device) error { return nil }) }

// maxPINs is how many wrong PINs are accepted before the next slot is tried: the TPM
// counts them, and locks itself.
const maxPINs = 3

// Key unseals the slot's secret. It asks for the PIN if the slot needs one.
func (t *TPM) Key(ctx context.Context, v *volume.Volume, slot volume.Slot) (*secret.Memory, error) {
	token := slot.TPM2
	if !token.PIN {
		return t.unseal(token, nil)
	}
	// Nobody is bothered for a PIN that wouldn't help.
	if err := t.Check(token); err != nil {
		return nil, err
	}
	question := fmt.Sprintf("PIN of the TPM for %s:", v.Name())
	for range maxPINs {
		pin, err := t.Ask(ctx, question)
		if err != nil {
			return nil, err
		}
		key, err := t.unseal(token, pin)
		pin.Wipe()
		if err == nil || !errors.Is(err, tpm.ErrPIN) {
			return key, err
		}
		question = fmt.Sprintf("Wrong PIN. PIN of the TPM for %s:", v.Name())
	}
	return nil, tpm.ErrPIN
}

func (t *TPM) unseal(token *luks.TPM2, pin *secret.Memory) (*secret.Memory, error) {
	signatures, err := t.BootedSignatures(token)
	if err != nil {
		return nil, err
	}
	var key *secret.Memory
	err = t.use(func(d *tpm.Device) error {
		sealed, err := d.Unseal(token, signatures, pin.Bytes())
		if err != nil {
			return err
		}
		key, err = passphrase(sealed)
		return err
	})
	return key, err
}

// Check returns nil if the TPM would unseal a token's secret now.
func (t *TPM) Check(token *luks.TPM2) error {
	signatures, err := t.BootedSignatures(token)
	if err != nil {
		return err
	}
	return t.use(func(d *tpm.Device) error { return d.Check(token, signatures) })
}

// Measure measures the opening of a volume into PCR 15.
func (t *TPM) Measure(volumeKey []byte, name, uuid string) error {
	return t.use(func(d *tpm.Device) error { return d.MeasureVolumeKey(volumeKey, name, uuid) })
}

// passphrase returns the passphrase for a sealed secret, which it wipes: systemd uses
// its base64.
func passphrase(sealed []byte) (*secret.Memory, error) {
	defer clear(sealed)
	key, err := secret.New(base64.StdEncoding.EncodedLen(len(sealed)))
	if err == nil {
		base64.StdEncoding.Encode(key.Bytes(), sealed)
	}
	return key, err
}

// Sizes of the secret that systemd seals and of the salt of a PIN, in bytes.
const (
	secretSize = 32
	saltSize   = 32
)

// Seal generates a secret, seals it under the policy that a token describes and fills
// in the other fields. It returns the passphrase for the key slot, and whether the TPM
// unseals it now: a signed policy may be valid in another phase of the boot only.
// Legacy is for systemd before version 254.
func (t *TPM) Seal(token *luks.TPM2, pin *secret.Memory, legacy bool) (key *secret.Memory, proved error, err error) {
	made, err := secret.New(secretSize)
	if err != nil {
		return nil, nil, err
	}
	defer made.Wipe()
	_, _ = rand.Read(made.Bytes()) // never fails: the program ends instead
	token.PIN = pin != nil
	if token.PIN && !legacy {
		token.Salt = make([]byte, saltSize)
		_, _ = rand.Read(token.Salt)
	}
	err = t.use(func(d *tpm.Device) error { return d.Seal(token, made.Bytes(), pin.Bytes(), legacy) })
	if err != nil {
		return nil, nil, err
	}
	back, proved := t.unseal(token, pin)
	defer back.Wipe()
	key, err = passphrase(slices.Clone(made.Bytes()))
	if err == nil && proved == nil && string(back.Bytes()) != string(key.Bytes()) {
		key.Wipe()
		return nil, nil, errors.New("the TPM does not return the secret that it sealed")
	}
	return key, proved, err
}

// BootedSignatures returns the booted image's signed policies for a token's bank, none
// where the token has no signed policy or the image has none.
func (t *TPM) BootedSignatures(token *luks.TPM2) ([]tpm.Signature, error) {
	if len(token.PublicKey) == 0 {
		return nil, nil
	}
	text, name, err := first(t.Signatures)
	if err != nil || name == "" {
		return nil, err
	}
	all, err := tpm.ParseSignatures(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return all[token.Bank], nil
}

// PublicKey returns the key that signs the policies of the booted UKI, nil
// where there is none.
func (t *TPM) PublicKey() (key []byte, name string, err error) { return first(t.PublicKeys) }

// maxFile is the maximum size of keys and signatures, in bytes.
const maxFile = 1 << 20

// first reads the first file that exists.
func first(names []string) ([]byte, string, error) {
	for _, name := range names {
		text, err := bounded.File(name, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return text, name, err
	}
	return nil, "", nil
}

// Token returns the token's JSON for a slot.
func Token(token *luks.TPM2) func(int) (json.RawMessage, error) {
	return func(slot int) (json.RawMessage, error) {
		token.Keyslot = slot
		return token.JSON()
	}
}
