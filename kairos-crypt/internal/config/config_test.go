package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
)

func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	root := t.TempDir()
	file := filepath.Join(root, "etc/kairos/crypt.conf")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Load(root)
}

func TestSettings(t *testing.T) {
	got, err := load(t, "[Enroll]\nPCRs=14+7\nBank=sha384\n[Unlock]\nNetworkTimeoutSec=1min\nTrialAskTimeoutSec=30\nKeySlots=tpm2 recovery-key\nMeasure=no\n")
	want := Config{PCRs: []int{7, 14}, Bank: "sha384", NetworkTimeout: time.Minute, Patience: 30 * time.Second, Kinds: []volume.Kind{volume.TPM2, volume.Recovery}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, error %v, want %+v", got, err, want)
	}
}

// A mistake changes nothing but is said: the rest counts, and so does what was
// the setting before.
func TestMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"[Enroll]\nPCRs=7,14": "not a number from 0 to 23", "[Enroll]\nPCRs=24": "24", "[Enroll]\nBank=md5": "md5",
		"[Unlock]\nNetworkTimeoutSec=soon": "soon", "[Unlock]\nKeySlots=tpm": `"tpm" is none of`, "[Unlock]\nMeasure=perhaps": "not yes or no",
		"[Unlock]\nPCRs=7": "unknown in section [Unlock]",
	} {
		got, err := load(t, line+"\n")
		defaults, _ := load(t, "")
		if err == nil || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(got, defaults) {
			t.Errorf("%q: %+v, error %v, want %q", line, got, err, want)
		}
	}
}
