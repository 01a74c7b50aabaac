package forecast

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"debug/pe"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/report"
)

// image is a PE file with one section: as much of a unified kernel image as is
// looked at.
func image(section string, contents []byte) []byte {
	var file bytes.Buffer
	file.WriteString("MZ")
	file.Write(make([]byte, 0x3c-2))
	_ = binary.Write(&file, binary.LittleEndian, uint32(0x40))
	file.WriteString("PE\x00\x00")
	const sectionHeader = 40
	at := file.Len() + binary.Size(pe.FileHeader{}) + sectionHeader
	_ = binary.Write(&file, binary.LittleEndian, pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1})
	header := pe.SectionHeader32{VirtualSize: uint32(len(contents)), SizeOfRawData: uint32(len(contents)), PointerToRawData: uint32(at)}
	copy(header.Name[:], section)
	_ = binary.Write(&file, binary.LittleEndian, header)
	file.Write(contents)
	return file.Bytes()
}

func publicKey(t *testing.T) (text []byte, fingerprint string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if fingerprint, err = tpm.Fingerprint(text); err != nil {
		t.Fatal(err)
	}
	return text, fingerprint
}

func TestSignedPolicies(t *testing.T) {
	ours, fingerprint := publicKey(t)
	others, _ := publicKey(t)
	signatures, err := json.Marshal(map[string][]tpm.Signature{"sha256": {{PCRs: []int{11}, Fingerprint: fingerprint}}})
	if err != nil {
		t.Fatal(err)
	}
	refused := fmt.Errorf("now: %w", tpm.ErrPolicy) // the phase of the initrd is over
	for _, test := range []struct {
		name  string
		file  []byte
		token luks.TPM2
		now   error
		want  report.Verdict
	}{
		{"signed by the key", image(".pcrsig", append(signatures, 0, 0)), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}}, refused, report.Yes},
		{"of other PCRs", image(".pcrsig", signatures), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11, 12}}, refused, report.No},
		{"signed by another", image(".pcrsig", signatures), luks.TPM2{PublicKey: others, PublicPCRs: []int{11}}, nil, report.No},
		{"not signed", image(".linux", signatures), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}}, nil, report.No},
		{"no image", []byte("MZ"), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}}, nil, report.Unknown},
		{"with a PCR that changes", image(".pcrsig", signatures), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}, PCRs: []int{4}}, nil, report.No},
		{"with one that stays", image(".pcrsig", signatures), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}, PCRs: []int{7}}, nil, report.Yes},
		{"with one of which nothing is known", image(".pcrsig", signatures), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}, PCRs: []int{7}}, refused, report.Unknown},
		{"another TPM", image(".pcrsig", signatures), luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}}, tpm.ErrOther, report.No},
	} {
		esp := t.TempDir()
		if err := os.WriteFile(filepath.Join(esp, "uki.efi"), test.file, 0o600); err != nil {
			t.Fatal(err)
		}
		next := &Next{ID: "2-bb", esp: esp,
			staged: deployment.Record{Boot: []deployment.File{{Kind: "uki", Path: "uki.efi", Digest: "bb"}}},
			booted: deployment.Record{Boot: []deployment.File{{Kind: "uki", Path: "other.efi", Digest: "aa"}}}}
		test.token.Bank = "sha256"
		if got, why := next.TPM2(&test.token, test.now, nil); got != test.want || (why == "") != (got == report.Yes) {
			t.Errorf("%s: %s (%s), want %s", test.name, got, why, test.want)
		}
	}
}

// The path of a staged image doesn't lead out of its partition.
func TestPathStaysOnTheESP(t *testing.T) {
	ours, _ := publicKey(t)
	next := &Next{ID: "2-bb", esp: t.TempDir(), staged: deployment.Record{Boot: []deployment.File{{Kind: "uki", Path: "../../etc/passwd"}}}}
	if got, why := next.TPM2(&luks.TPM2{PublicKey: ours, PublicPCRs: []int{11}, Bank: "sha256"}, nil, nil); got != report.Unknown {
		t.Errorf("%s: %s", got, why)
	}
}
