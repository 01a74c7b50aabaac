package tpm

import (
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// banks maps the names of PCR banks in tokens to hash algorithms.
var banks = map[string]tpm2.TPMAlgID{
	"sha1": tpm2.TPMAlgSHA1, "sha256": tpm2.TPMAlgSHA256, "sha384": tpm2.TPMAlgSHA384, "sha512": tpm2.TPMAlgSHA512,
}

// selection returns PCRs of a bank as a TPM structure.
func selection(bank string, numbers []int) (tpm2.TPMLPCRSelection, error) {
	algorithm, ok := banks[bank]
	if !ok {
		return tpm2.TPMLPCRSelection{}, fmt.Errorf("PCR bank %q is not known", bank)
	}
	selected := make([]byte, 3)
	for _, n := range numbers {
		if n < 0 || n >= 8*len(selected) {
			return tpm2.TPMLPCRSelection{}, fmt.Errorf("there is no PCR %d", n)
		}
		selected[n/8] |= 1 << (n % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: algorithm, PCRSelect: selected}}}, nil
}

// Values returns the current values of PCRs.
func (d *Device) Values(bank string, numbers []int) (map[int][]byte, error) {
	values := map[int][]byte{}
	for _, n := range numbers { // the TPM answers for eight at most, and not always for that many
		selected, err := selection(bank, []int{n})
		if err != nil {
			return nil, err
		}
		answer, err := tpm2.PCRRead{PCRSelectionIn: selected}.Execute(d.TPM)
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", n, err)
		}
		if len(answer.PCRValues.Digests) != 1 {
			return nil, fmt.Errorf("read PCR %d: the TPM has no bank %s", n, bank)
		}
		values[n] = answer.PCRValues.Digests[0].Buffer
	}
	return values, nil
}

// List formats PCRs as systemd does: 7+11.
func List(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", "+"), "[]")
}

// Meaning describes in a few words what is measured into a PCR: "TCG PC Client Platform
// Firmware Profile" and systemd's "TPM2 PCR Measurements".
func Meaning(pcr int) string {
	if what, ok := map[int]string{
		0: "firmware", 1: "firmware settings", 2: "option ROMs", 3: "settings of option ROMs", 4: "boot loader and kernel",
		5: "partition table", 6: "platform", 7: "Secure Boot state", 8: "boot loader commands", 9: "initrd",
		10: "integrity measurements", 11: "unified kernel image", 12: "kernel command line", 13: "system extensions",
		14: "shim's keys", 15: "system identity",
	}[pcr]; ok {
		return what
	}
	return "application"
}
