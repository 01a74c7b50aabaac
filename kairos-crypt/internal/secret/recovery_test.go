package secret_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
)

func TestMain(m *testing.M) { crypttest.Main(m) }

var form = regexp.MustCompile(`[cbdefghijklnrtuv]{8}(-[cbdefghijklnrtuv]{8}){7}`)

func TestRecoveryKey(t *testing.T) {
	key := secret.NewRecoveryKey()
	if form.FindString(string(key)) != string(key) || bytes.Equal(key, secret.NewRecoveryKey()) {
		t.Fatalf("key %q", key)
	}
	for _, typed := range []string{
		string(key), strings.ToUpper(string(key)), strings.ReplaceAll(string(key), "-", ""),
	} {
		if got, err := secret.ParseRecoveryKey([]byte(typed)); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%q: %q, %v", typed, got, err)
		}
	}
	for _, typed := range []string{
		"", string(key[1:]), string(key) + "c", strings.Replace(string(key), "-", "c", 1), "a" + string(key[1:]), "-" + string(key[1:]),
	} {
		if got, err := secret.ParseRecoveryKey([]byte(typed)); !errors.Is(err, secret.ErrRecoveryKey) {
			t.Errorf("%q: %q, %v", typed, got, err)
		}
	}
}

// The key that systemd-cryptenroll prints opens its slot when typed without
// dashes, as systemd allows.
func TestSystemdRecoveryKey(t *testing.T) {
	crypttest.Programs(t, "cryptsetup", "systemd-cryptenroll")
	ctx, disk, file := t.Context(), crypttest.Disk(t), t.TempDir()+"/key"
	if err := os.WriteFile(file, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cryptsetup.Format(ctx, disk, []byte("key"), cryptsetup.Random, ""); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-cryptenroll", "--unlock-key-file="+file, "--recovery-key", disk).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	typed := strings.ToUpper(strings.ReplaceAll(form.FindString(string(out)), "-", ""))
	key, err := secret.ParseRecoveryKey([]byte(typed))
	if err != nil {
		t.Fatalf("%q: %v", typed, err)
	}
	if err := cryptsetup.Test(ctx, disk, 1, key); err != nil {
		t.Error(err)
	}
}
