package tpm

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

func TestMain(m *testing.M) { crypttest.Main(m) }

// bus is a TPM whose bus is listened to.
type bus struct {
	transport.TPM
	heard bytes.Buffer
}

func (b *bus) Send(command []byte) ([]byte, error) {
	b.heard.Write(command)
	answer, err := b.TPM.Send(command)
	b.heard.Write(answer)
	return answer, err
}

func open(t *testing.T) (*Device, *bus, string) {
	t.Helper()
	socket := crypttest.SWTPM(t)
	tpm, err := linuxudstpm.Open(socket)
	must(t, err)
	listened := &bus{TPM: tpm}
	return &Device{TPM: listened}, listened, socket
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// extend changes a PCR, as other firmware or another kernel would.
func extend(t *testing.T, d *Device, pcr uint32) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)},
		}},
	}.Execute(d.TPM)
	must(t, err)
}

// vendor signs policies as systemd-measure does.
type vendor struct {
	key *rsa.PrivateKey
	pem []byte
}

func newVendor(t *testing.T) *vendor {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	return &vendor{key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

// sign signs the present value of PCR 11.
func (v *vendor) sign(t *testing.T, d *Device) []Signature {
	t.Helper()
	policy, err := d.trial(&luks.TPM2{PCRs: []int{11}, Bank: "sha256"})
	must(t, err)
	sum, fingerprint := sha256.Sum256(policy), sha256.Sum256(x509.MarshalPKCS1PublicKey(&v.key.PublicKey))
	signature, err := rsa.SignPKCS1v15(rand.Reader, v.key, crypto.SHA256, sum[:])
	must(t, err)
	return []Signature{{[]int{11}, hex.EncodeToString(fingerprint[:]), hex.EncodeToString(policy), signature}}
}

// Each policy opens where it should, and neither secret nor PIN is ever on the
// bus.
func TestPolicies(t *testing.T) {
	d, listened, _ := open(t)
	v := newVendor(t)
	signed := v.sign(t, d)
	salt := bytes.Repeat([]byte{7}, 32)
	pin := []byte("correct horse")
	for name, token := range map[string]luks.TPM2{
		"none":               {},
		"literal":            {PCRs: []int{4, 7}, Bank: "sha256"},
		"ten literal":        {PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, Bank: "sha256"},
		"pin":                {PIN: true, Salt: salt},
		"unsalted pin":       {PIN: true},
		"pin with a zero":    {PIN: true, Salt: saltWithZero(t, pin)},
		"literal pin":        {PIN: true, Salt: salt, PCRs: []int{7}, Bank: "sha256"},
		"signed":             {PublicKey: v.pem, PublicPCRs: []int{11}, Bank: "sha256"},
		"signed literal pin": {PublicKey: v.pem, PublicPCRs: []int{11}, Bank: "sha256", PCRs: []int{7}, PIN: true, Salt: salt},
	} {
		secret := []byte(rand.Text() + rand.Text())[:32]
		var given []byte
		if token.PIN {
			given = pin
		}
		if err := d.Seal(&token, secret, given, false); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := d.Check(&token, signed); err != nil {
			t.Errorf("%s: check: %v", name, err)
		}
		got, err := d.Unseal(&token, signed, given)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: unsealed %q, error %v, want %q", name, got, err, secret)
		}
		if bytes.Contains(listened.heard.Bytes(), secret) {
			t.Errorf("%s: the secret is on the bus", name)
		}
		auth, err := authValue(given, token.Salt)
		must(t, err)
		if token.PIN && (bytes.Contains(listened.heard.Bytes(), pin) || bytes.Contains(listened.heard.Bytes(), auth)) {
			t.Errorf("%s: the PIN is on the bus", name)
		}
	}
	if listened.heard.Len() == 0 {
		t.Error("nothing was heard on the bus")
	}
}

// saltWithZero returns a salt with which the PIN's hash has a zero byte in its
// midst, which the HMAC's key must not end at.
func saltWithZero(t testing.TB, pin []byte) []byte {
	t.Helper()
	for salt := make([]byte, 32); ; salt[0]++ {
		if zeroInside(t, pin, salt) {
			return salt
		}
	}
}

func zeroInside(t testing.TB, pin, salt []byte) bool {
	t.Helper()
	auth, err := authValue(pin, salt)
	must(t, err)
	return bytes.IndexByte(auth, 0) >= 0
}

// Each refusal says why.
func TestRefusals(t *testing.T) {
	d, _, _ := open(t)
	v := newVendor(t)
	old := v.sign(t, d)
	pin, literal := luks.TPM2{PIN: true, Salt: []byte("salt")}, luks.TPM2{PCRs: []int{7}, Bank: "sha256"}
	signed := luks.TPM2{PublicKey: v.pem, PublicPCRs: []int{11}, Bank: "sha256"}
	secret := []byte("0123456789abcdef0123456789abcdef")
	must(t, d.Seal(&pin, secret, []byte("1234"), false))
	must(t, d.Seal(&literal, secret, nil, false))
	must(t, d.Seal(&signed, secret, nil, false))

	refused := func(what string, token *luks.TPM2, signatures []Signature, given string, want error) {
		t.Helper()
		if got, err := d.Unseal(token, signatures, []byte(given)); !errors.Is(err, want) || got != nil {
			t.Errorf("%s: unsealed %q, error %v, want %v", what, got, err, want)
		}
	}
	refused("wrong PIN", &pin, nil, "4321", ErrPIN)
	refused("no PIN", &pin, nil, "", ErrPIN)
	extend(t, d, 7)
	extend(t, d, 11)
	refused("PCR 7 changed", &literal, nil, "", ErrPolicy)
	if err := d.Check(&literal, nil); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "PCR 7 (Secure Boot state) has changed") {
		t.Errorf("check after PCR 7 changed: %v", err)
	}
	refused("PCR 11 changed, old signature", &signed, old, "", ErrPolicy)
	refused("PCR 11 changed, another's signature", &signed, newVendor(t).sign(t, d), "", ErrPolicy)
	// Another deployment would do better only where nothing else has changed.
	kernel := luks.TPM2{PCRs: []int{4, 7}, Bank: "sha256"}
	must(t, d.Seal(&kernel, secret, nil, false))
	both := luks.TPM2{PublicKey: v.pem, PublicPCRs: []int{11}, PCRs: []int{7}, Bank: "sha256"}
	must(t, d.Seal(&both, secret, nil, false))
	ofDeployment := func(token *luks.TPM2, want bool) {
		t.Helper()
		var r *Refusal
		if err := d.Check(token, nil); !errors.As(err, &r) || r.OfDeployment() != want {
			t.Errorf("PCRs %v and %v: of the deployment should be %t: %v", token.PCRs, token.PublicPCRs, want, err)
		}
	}
	ofDeployment(&literal, false)
	ofDeployment(&signed, true)
	ofDeployment(&both, true)
	extend(t, d, 4)
	ofDeployment(&kernel, true)
	unknown := kernel
	unknown.Values = nil // systemd's: it may be PCR 7
	ofDeployment(&unknown, false)
	extend(t, d, 7)
	ofDeployment(&kernel, false)
	ofDeployment(&both, false)

	forged := v.sign(t, d)
	forged[0].Signature = old[0].Signature
	if _, err := d.Unseal(&signed, forged, nil); !errors.Is(err, tpm2.TPMRCSignature) {
		t.Errorf("forged signature: %v", err)
	}
	if got, err := d.Unseal(&signed, v.sign(t, d), nil); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("PCR 11 changed, new signature: %q, %v", got, err)
	}

	other, _, _ := open(t)
	_, err := other.makeSRK()
	must(t, err)
	if _, err := other.Unseal(&pin, nil, []byte("1234")); !errors.Is(err, ErrOther) {
		t.Errorf("another TPM: %v", err)
	}
	old252 := pin
	old252.SRK = nil // nothing in the token tells: the TPM itself refuses
	if _, err := other.Unseal(&old252, nil, []byte("1234")); !errors.Is(err, ErrOther) {
		t.Errorf("another TPM, token without a key: %v", err)
	}
}

// PCR 15 tells which volume was opened, and with which key.
func TestMeasureVolumeKey(t *testing.T) {
	d, listened, _ := open(t)
	before, err := d.Values("sha256", []int{15})
	must(t, err)
	key := bytes.Repeat([]byte{3}, 64)
	must(t, d.MeasureVolumeKey(key, "COS_PERSISTENT", "7f4e"))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("cryptsetup:COS_PERSISTENT:7f4e"))
	want := sha256.Sum256(append(before[15], mac.Sum(nil)...))
	after, err := d.Values("sha256", []int{15})
	must(t, err)
	if !bytes.Equal(after[15], want[:]) || bytes.Contains(listened.heard.Bytes(), key) {
		t.Errorf("PCR 15 is %x, want %x; or the key is on the bus", after[15], want)
	}
}
