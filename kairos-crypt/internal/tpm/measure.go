package tpm

import (
	"crypto/hmac"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// volumeKeyPCR is the PCR for opened volumes: "TPM2 PCR Measurements Made by systemd".
const volumeKeyPCR = 15

// MeasureVolumeKey extends PCR 15, in all banks of the TPM, with an HMAC under the
// volume key, which identifies the opened volume: a header with another key has another
// measurement. systemd-cryptsetup does the same with tpm2-measure-pcr=yes.
func (d *Device) MeasureVolumeKey(key []byte, name, uuid string) error {
	var digests []tpm2.TPMTHA
	for bank, algorithm := range banks {
		if _, err := d.Values(bank, []int{volumeKeyPCR}); err != nil {
			continue
		}
		hash, err := algorithm.Hash()
		if err != nil {
			return err
		}
		mac := hmac.New(hash.New, key)
		fmt.Fprintf(mac, "cryptsetup:%s:%s", name, uuid)
		digests = append(digests, tpm2.TPMTHA{HashAlg: algorithm, Digest: mac.Sum(nil)})
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(volumeKeyPCR), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}.Execute(d.TPM)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", volumeKeyPCR, err)
	}
	return nil
}
