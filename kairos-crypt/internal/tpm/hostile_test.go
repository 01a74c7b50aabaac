package tpm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
)

// What a listener on the bus has, here the TPM's own log of all that came and
// went, holds neither the secret nor the PIN, in no form.
func TestBusCapture(t *testing.T) {
	socket, log := crypttest.LoggedSWTPM(t)
	connection, err := linuxudstpm.Open(socket)
	must(t, err)
	d := &Device{TPM: connection}
	secret, pin := []byte("0123456789abcdef0123456789abcdef"), []byte("correct horse")
	token := luks.TPM2{PIN: true, Salt: bytes.Repeat([]byte{7}, 32), PCRs: []int{7}, Bank: "sha256"}
	must(t, d.Seal(&token, secret, pin, false))
	got, err := d.Unseal(&token, nil, pin)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("unsealed %q, %v", got, err)
	}
	must(t, connection.Close())
	text, err := os.ReadFile(log)
	must(t, err)
	var heard []byte // the lines of hex digits
	for line := range strings.Lines(string(text)) {
		if raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(line), " ", "")); err == nil {
			heard = append(heard, raw...)
		}
	}
	if !bytes.Contains(heard, token.Policies[0]) { // which is no secret
		t.Fatalf("the log is not that of the bus: %.2000s", text)
	}
	auth, err := authValue(pin, token.Salt)
	must(t, err)
	for what, hidden := range map[string][]byte{"secret": secret, "half of the secret": secret[:16], "PIN": pin, "PIN's hash": auth, "half of it": auth[:16]} {
		if bytes.Contains(heard, hidden) {
			t.Errorf("the %s is on the bus", what)
		}
	}
}

// A locked TPM says so, to a right PIN as well, and opens what has none.
func TestLockout(t *testing.T) {
	d, _, _ := open(t)
	secret := []byte("0123456789abcdef0123456789abcdef")
	pin, plain := luks.TPM2{PIN: true, Salt: []byte("salt")}, luks.TPM2{PCRs: []int{7}, Bank: "sha256"}
	must(t, d.Seal(&pin, secret, []byte("1234"), false))
	must(t, d.Seal(&plain, secret, nil, false))
	const enough = 64 // wrong PINs for any TPM
	locked := false
	for range enough {
		_, err := d.Unseal(&pin, nil, []byte("4321"))
		if locked = errors.Is(err, ErrLockout); locked {
			break
		}
		if !errors.Is(err, ErrPIN) {
			t.Fatalf("a wrong PIN: %v", err)
		}
	}
	if !locked {
		t.Fatalf("not locked after %d wrong PINs", enough)
	}
	if got, err := d.Unseal(&pin, nil, []byte("1234")); !errors.Is(err, ErrLockout) || got != nil {
		t.Errorf("the right PIN of a locked TPM: %q, %v", got, err)
	}
	if got, err := d.Unseal(&plain, nil, nil); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("without a PIN: %q, %v", got, err)
	}
}

// A token that is not what it was when it was enrolled opens nothing.
func TestHostileToken(t *testing.T) {
	d, _, _ := open(t)
	secret := []byte("0123456789abcdef0123456789abcdef")
	token, other := luks.TPM2{PCRs: []int{7}, Bank: "sha256"}, luks.TPM2{PCRs: []int{7}, Bank: "sha256"}
	must(t, d.Seal(&token, secret, nil, false))
	must(t, d.Seal(&other, bytes.Repeat([]byte{9}, 32), nil, false))
	flipped := func(raw []byte, at int) []byte {
		raw = slices.Clone(raw)
		raw[at] ^= 1
		return raw
	}
	blob := token.Blobs[0]
	middle := 2 + int(binary.BigEndian.Uint16(blob)) // where the public area begins
	for what, change := range map[string]func(*luks.TPM2){
		"two shares": func(t *luks.TPM2) { t.Blobs = [][]byte{blob, blob}; t.Policies = append(t.Policies, t.Policies[0]) },
		"another's public area": func(t *luks.TPM2) {
			t.Blobs = [][]byte{append(slices.Clone(blob[:middle]), other.Blobs[0][middle:]...)}
		},
		"a changed private area": func(t *luks.TPM2) { t.Blobs = [][]byte{flipped(blob, 20)} },
		"a changed public area":  func(t *luks.TPM2) { t.Blobs = [][]byte{flipped(blob, len(blob)-1)} },
		"a blob cut off":         func(t *luks.TPM2) { t.Blobs = [][]byte{blob[:middle]} },
		"more behind the blob":   func(t *luks.TPM2) { t.Blobs = [][]byte{append(slices.Clone(blob), 0)} },
		"an empty blob":          func(t *luks.TPM2) { t.Blobs = [][]byte{{}} },
		"another policy":         func(t *luks.TPM2) { t.Policies = [][]byte{make([]byte, 32)} },
		"fewer PCRs":             func(t *luks.TPM2) { t.PCRs = nil },
		"a PIN":                  func(t *luks.TPM2) { t.PIN = true },
		"another SRK":            func(t *luks.TPM2) { t.SRK = flipped(t.SRK, len(t.SRK)-1) },
		"no SRK":                 func(t *luks.TPM2) { t.SRK = nil },
	} {
		hostile := token
		change(&hostile)
		if got, err := d.Unseal(&hostile, nil, []byte("1234")); err == nil || got != nil {
			t.Errorf("%s: unsealed %q, %v", what, got, err)
		}
	}
	if got, err := d.Unseal(&token, nil, nil); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("as it was: %q, %v", got, err)
	}
}

// script is a TPM that answers what a hostile bus would have it answer.
type script struct{ answers []byte }

func (s *script) Send([]byte) ([]byte, error) {
	if len(s.answers) < 2 {
		return nil, io.ErrUnexpectedEOF
	}
	length := min(int(binary.BigEndian.Uint16(s.answers)), len(s.answers)-2)
	answer := s.answers[2 : 2+length]
	s.answers = s.answers[2+length:]
	return slices.Clone(answer), nil
}

// recorder writes down answers in the form of a script.
type recorder struct {
	*bus
	answers []byte
}

func (r *recorder) Send(command []byte) ([]byte, error) {
	answer, err := r.bus.TPM.Send(command)
	r.answers = append(binary.BigEndian.AppendUint16(r.answers, uint16(len(answer))), answer...)
	return answer, err
}

// Whatever the TPM answers to whatever it is asked, nothing panics, and a secret
// comes only out of an answer that proves that it is the TPM's. Its sessions are
// random, so that go test minimizes in vain: -fuzzminimizetime 10x.
func FuzzResponses(f *testing.F) {
	text, err := os.ReadFile("../luks/testdata/systemd-257.json")
	if err != nil {
		f.Fatal(err)
	}
	metadata, err := luks.ParseMetadata(text)
	if err != nil {
		f.Fatal(err)
	}
	enrolled, err := luks.ParseTPM2(metadata.Tokens[0])
	if err != nil {
		f.Fatal(err)
	}
	legacy := *enrolled
	legacy.SRK = nil
	// Answers of a real TPM, where there is one.
	if seeds, err := os.ReadDir("testdata/responses"); err == nil {
		for _, seed := range seeds {
			raw, err := os.ReadFile("testdata/responses/" + seed.Name())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Add([]byte{0, 10, 0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x8b})
	f.Fuzz(func(t *testing.T, answers []byte) {
		for what, ask := range map[string]func(*Device) ([]byte, error){
			"unseal":        func(d *Device) ([]byte, error) { return d.Unseal(enrolled, nil, nil) },
			"unseal legacy": func(d *Device) ([]byte, error) { return d.Unseal(&legacy, nil, nil) },
			"check":         func(d *Device) ([]byte, error) { return nil, d.Check(enrolled, nil) },
			"seal": func(d *Device) ([]byte, error) {
				return nil, d.Seal(&luks.TPM2{PCRs: []int{7}, Bank: "sha256"}, make([]byte, 32), nil, false)
			},
			"values":  func(d *Device) ([]byte, error) { _, err := d.Values("sha256", []int{0, 23}); return nil, err },
			"measure": func(d *Device) ([]byte, error) { return nil, d.MeasureVolumeKey(make([]byte, 64), "a", "b") },
		} {
			if got, _ := ask(&Device{TPM: &script{answers}}); got != nil {
				t.Fatalf("%s: %x came out of a session whose key no answer can know", what, got)
			}
		}
	})
}

// TestRecordedResponses has a real TPM make what FuzzResponses starts from.
func TestRecordedResponses(t *testing.T) {
	_, listened, _ := open(t)
	r := &recorder{bus: listened}
	d := &Device{TPM: r}
	token := luks.TPM2{PCRs: []int{7}, Bank: "sha256"}
	must(t, d.Seal(&token, make([]byte, 32), nil, false))
	sealed := r.answers
	r.answers = nil
	_, err := d.Unseal(&token, nil, nil)
	must(t, err)
	// The same answers do not do for another session: it has another nonce.
	if got, err := (&Device{TPM: &script{r.answers}}).Unseal(&token, nil, nil); err == nil || got != nil {
		t.Errorf("replayed answers unseal %x", got)
	}
	if os.Getenv("KAIROS_RECORD") == "" {
		return
	}
	must(t, os.MkdirAll("testdata/responses", 0o755))
	must(t, os.WriteFile("testdata/responses/seal", sealed, 0o644))
	must(t, os.WriteFile("testdata/responses/unseal", r.answers, 0o644))
}
