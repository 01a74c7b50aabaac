package tpm

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

// code is the PIN of these tests.
var code = []byte("1234")

// Both ways with systemd, for each version that is there and each policy: it
// enrols and we unlock; we enrol and it unlocks, on the same disk, with the same
// TPM and signatures of systemd-measure. Versions before 256 unlock by
// systemd-cryptsetup only, which needs device mapper at its end: there it counts
// that the TPM gave the secret out, and that it does not with a wrong PIN.
func TestSystemd(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	versions := crypttest.Systemds(t)
	vendor := newVendor(t)
	salt := saltWithZero(t, code)
	for name, policy := range map[string]luks.TPM2{
		"none":               {},
		"literal":            {PCRs: []int{4, 7}, Bank: "sha256"},
		"pin":                {PIN: true, Salt: salt}, // whose hash has a zero, which go-tpm cuts it at
		"literal pin":        {PCRs: []int{7}, Bank: "sha256", PIN: true, Salt: salt},
		"signed":             {PublicKey: vendor.pem, PublicPCRs: []int{11}, Bank: "sha256"},
		"signed literal":     {PublicKey: vendor.pem, PublicPCRs: []int{11}, Bank: "sha256", PCRs: []int{7}},
		"signed pin":         {PublicKey: vendor.pem, PublicPCRs: []int{11}, Bank: "sha256", PIN: true, Salt: salt},
		"signed literal pin": {PublicKey: vendor.pem, PublicPCRs: []int{11}, Bank: "sha256", PCRs: []int{7}, PIN: true, Salt: salt},
	} {
		for _, systemd := range versions {
			t.Run(fmt.Sprintf("%s/%d", name, systemd.Version), func(t *testing.T) {
				d, _, socket := open(t) // wrong PINs are counted
				test := compatibility{d, "swtpm:path=" + socket, newMeasured(t, d, vendor), systemd, policy, crypttest.Disk(t)}
				must(t, cryptsetup.Format(t.Context(), test.disk, []byte("key"), cryptsetup.Random, ""))
				t.Run("its", test.its)
				t.Run("ours", test.ours)
			})
		}
	}
}

type compatibility struct {
	d       *Device
	device  string // the TPM, for systemd
	signer  *measured
	systemd crypttest.Systemd
	policy  luks.TPM2
	disk    string
}

func (c compatibility) pin() []byte {
	if c.policy.PIN {
		return code
	}
	return nil
}

// its: systemd enrols, we unlock.
func (c compatibility) its(t *testing.T) {
	pin := map[bool]string{false: "no", true: "yes"}[c.policy.PIN]
	if c.policy.PIN && c.systemd.Version >= 262 {
		pin = "direct" // see TestHardenedPIN
	}
	arguments := []string{
		"--unlock-key-file=" + file(t, "key", []byte("key")), "--tpm2-device=" + c.device,
		"--tpm2-pcrs=" + List(c.policy.PCRs), "--tpm2-with-pin=" + pin,
	}
	if c.policy.PublicKey != nil {
		arguments = append(arguments, "--tpm2-public-key="+file(t, "key.pem", c.policy.PublicKey), "--tpm2-public-key-pcrs=11", "--tpm2-signature="+c.signer.file)
	} else if c.systemd.Version >= 255 { // where it may be told not to look for one
		arguments = append(arguments, "--tpm2-public-key=")
	}
	var token *luks.TPM2
	// From 255 on PINs are salted, at random: one of eight gives a zero. A few
	// rounds are enough to meet one now and then.
	for round := 0; token == nil || round < 4 && token.Salt != nil && !zeroInside(t, code, token.Salt); round++ {
		c.enroll(t, "--wipe-slot=tpm2", c.disk)
		c.enroll(t, append(slices.Clone(arguments), c.disk)...)
		token = onlyToken(t, c.disk)
	}
	if (token.SRK == nil) != (c.systemd.Version < 254) {
		t.Errorf("its token has a storage root key of %d bytes", len(token.SRK))
	}
	secret, err := c.d.Unseal(token, c.signer.signatures, c.pin())
	must(t, err)
	must(t, cryptsetup.Test(t.Context(), c.disk, token.Keyslot, base64.StdEncoding.AppendEncode(nil, secret)))
}

// ours: we enrol, systemd unlocks.
func (c compatibility) ours(t *testing.T) {
	c.enroll(t, "--wipe-slot=tpm2", c.disk) // it tries all tokens: only ours may be left
	legacy, token := c.systemd.Version < 254, c.policy
	token.Keyslot = 5
	if legacy {
		token.Salt = nil
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	must(t, c.d.Seal(&token, secret, c.pin(), legacy))
	must(t, cryptsetup.AddKey(t.Context(), c.disk, 5, []byte("key"), base64.StdEncoding.AppendEncode(nil, secret), cryptsetup.Random))
	text, err := token.JSON()
	must(t, err)
	must(t, cryptsetup.ImportToken(t.Context(), c.disk, 0, text))

	if c.systemd.Version >= 256 {
		c.systemd.Provide(t, "run/systemd/tpm2-pcr-signature.json", c.signer.text)
		c.enroll(t, "--unlock-tpm2-device="+c.device, "--recovery-key", c.disk)
		if token := header(t, c.disk).Metadata.Tokens[1]; token.Type != luks.TypeRecovery {
			t.Errorf("systemd-cryptenroll left %+v", token)
		}
		return
	}
	const unsealed = "Activating volume kairos-test"
	if out := c.attach(t, c.pin()); !strings.Contains(out, unsealed) {
		t.Errorf("systemd-cryptsetup did not come as far as the volume: %s", out)
	}
	if c.policy.PIN {
		if out := c.attach(t, []byte("4321")); strings.Contains(out, unsealed) {
			t.Errorf("systemd-cryptsetup takes a wrong PIN: %s", out)
		}
	}
}

// PINs that systemd 262 hashes by Argon2id, unless it is told not to, are refused
// for what they are, before the TPM counts a wrong PIN.
func TestHardenedPIN(t *testing.T) {
	crypttest.Programs(t, "cryptsetup")
	for _, systemd := range crypttest.Systemds(t) {
		if systemd.Version < 262 {
			continue
		}
		d, _, socket := open(t)
		c := compatibility{d: d, device: "swtpm:path=" + socket, systemd: systemd, policy: luks.TPM2{PIN: true}, disk: crypttest.Disk(t)}
		must(t, cryptsetup.Format(t.Context(), c.disk, []byte("key"), cryptsetup.Random, ""))
		c.enroll(t, "--unlock-key-file="+file(t, "key", []byte("key")), "--tpm2-device="+c.device, "--tpm2-pcrs=", "--tpm2-public-key=",
			"--tpm2-with-pin=yes", "--tpm2-argon2id-memory=64M", "--tpm2-argon2id-iterations=1", c.disk)
		token := onlyToken(t, c.disk)
		if _, err := d.Unseal(token, nil, code); !errors.Is(err, ErrForm) {
			t.Errorf("systemd %d: %v", systemd.Version, err)
		}
	}
}

func (c compatibility) enroll(t *testing.T, arguments ...string) {
	t.Helper()
	command := c.systemd.Command(t, "systemd-cryptenroll", arguments...)
	command.Env = append(command.Env, "PIN="+string(c.pin()), "NEWPIN="+string(c.pin()))
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("systemd-cryptenroll %s: %v: %s", strings.Join(arguments, " "), err, out)
	}
}

// attach returns what systemd-cryptsetup says. It fails in any case.
func (c compatibility) attach(t *testing.T, pin []byte) string {
	t.Helper()
	options := "headless=1,tries=1,tpm2-device=" + c.device
	if c.policy.PublicKey != nil {
		options += ",tpm2-signature=" + c.signer.file
	}
	command := c.systemd.Command(t, "/lib/systemd/systemd-cryptsetup", "attach", "kairos-test", c.disk, "-", options)
	// Not by cryptsetup's token modules, which would look for a TPM in /dev.
	command.Env = append(command.Env, "PIN="+string(pin), "SYSTEMD_CRYPTSETUP_USE_TOKEN_MODULE=0", "SYSTEMD_LOG_LEVEL=debug")
	out, err := command.CombinedOutput()
	if err == nil {
		t.Error("systemd-cryptsetup mapped a device")
	}
	flushSessions(t, c.d)
	return string(out)
}

// flushSessions ends what a failed systemd-cryptsetup leaves: in earnest that is
// the work of the kernel's resource manager.
func flushSessions(t *testing.T, d *Device) {
	t.Helper()
	for _, first := range []uint32{0x02000000, 0x03000000} { // TPM_HT_LOADED_SESSION, TPM_HT_SAVED_SESSION
		answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(d.TPM)
		must(t, err)
		handles, err := answer.CapabilityData.Data.Handles()
		must(t, err)
		for _, handle := range handles.Handle {
			d.flush(handle)
		}
	}
}

// measured is a unified kernel image's signed policy of PCR 11, made by
// systemd-measure, and the TPM's PCR is what the image would have left in it.
type measured struct {
	signatures []Signature
	text       []byte
	file       string
}

func newMeasured(t *testing.T, d *Device, vendor *vendor) *measured {
	t.Helper()
	crypttest.Programs(t, "/usr/lib/systemd/systemd-measure")
	private, err := x509.MarshalPKCS8PrivateKey(vendor.key)
	must(t, err)
	kernel := []byte("a kernel")
	out, err := exec.Command("/usr/lib/systemd/systemd-measure", "sign", "--bank=sha256", "--phase=enter-initrd", "--linux="+file(t, "linux", kernel),
		"--private-key="+file(t, "private.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"--public-key="+file(t, "public.pem", vendor.pem)).Output()
	must(t, err)
	signatures, err := ParseSignatures(out)
	must(t, err)
	// systemd-stub measures a section's name and contents; then comes the phase.
	for _, data := range [][]byte{[]byte(".linux\x00"), kernel, []byte("enter-initrd")} {
		sum := sha256.Sum256(data)
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: 11, Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: sum[:]}}},
		}.Execute(d.TPM)
		must(t, err)
	}
	return &measured{signatures["sha256"], out, file(t, "signature.json", out)}
}

func onlyToken(t *testing.T, disk string) *luks.TPM2 {
	t.Helper()
	tokens := header(t, disk).Metadata.Tokens
	if len(tokens) != 1 {
		t.Fatalf("%d tokens, want one", len(tokens))
	}
	for _, token := range tokens {
		parsed, err := luks.ParseTPM2(token)
		must(t, err)
		return parsed
	}
	return nil
}

func header(t *testing.T, disk string) *luks.Header {
	t.Helper()
	file, err := os.Open(disk)
	must(t, err)
	defer file.Close()
	read, err := luks.Read(file)
	must(t, err)
	return read
}

// file makes a file of one test.
func file(t *testing.T, name string, contents []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, contents, 0o600))
	return path
}
