package crypt

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestVolume(t *testing.T) {
	if os.Getenv("KAIROS_E2E") != "1" {
		t.Skip("starts virtual machines: set KAIROS_E2E=1 (make e2e)")
	}
	l, err := NewLab(t.Context(), t.TempDir())
	must(t, err)
	boot := func(state string, steps ...string) string {
		t.Helper()
		out, err := l.Boot(t.Context(), state, steps...)
		must(t, err)
		return out
	}
	here, elsewhere := t.TempDir(), t.TempDir()

	first := boot(here, "format", "unlock", "pcr15", "write", "read", "close")
	recovery := only(t, first, `guest: recovery (\S+)`)

	// Over a boot systemd opens the volume with our key slot, and finds the data. What it has measured
	// is what we have.
	second := boot(here, "attach", "pcr15", "read", "close", "unlock", "read", "close", "attach", "close", "unlock")
	if ours, its := only(t, first, `guest: pcr15 (\S+)`), only(t, second, `guest: pcr15 (\S+)`); ours != its || strings.Trim(ours, "0") == "" {
		t.Errorf("PCR 15: ours %s, systemd's %s", ours, its)
	}

	// In another machine the disk stays closed, but for the recovery key.
	boot(elsewhere, "locked", "recover", "read", "close", "key="+recovery)
}

// only returns what the first group of an expression is, wherever it matches first.
func only(t *testing.T, text, expression string) string {
	t.Helper()
	match := regexp.MustCompile(expression).FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("no %s in: %s", expression, text)
	}
	return match[1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
