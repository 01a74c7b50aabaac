package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/report"
)

func TestUnlock(t *testing.T) {
	const (
		opened = `{"name":"COS_OEM","slot":1,"kind":"tpm2"}`
		other  = `{"name":"COS_PERSISTENT","slot":-1,"error":"another TPM"}`
		kernel = `{"name":"COS_PERSISTENT","slot":-1,"error":"PCR 4 has changed\nno person could be asked","of_deployment":true}`
	)
	for name, test := range map[string]struct{ a, b, err, out, problem string }{
		"all opened":         {opened, opened, "", "", ""},
		"of no deployment":   {opened, other, "", "COS_PERSISTENT stayed locked, as it would with another deployment: another TPM\n", ""},
		"of this deployment": {opened, kernel, "COS_PERSISTENT stayed locked", "", "COS_PERSISTENT: PCR 4 has changed; no person could be asked\n"},
		"damaged":            {opened, "{", "read /run/kairos/crypt/unlocks/b.json: unexpected end of JSON input", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, report.UnlockDir)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"a.json": test.a, "b.json": test.b, "c.tmp": "{"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, problem strings.Builder
			got := ""
			if err := Unlock(root)(t.Context(), &out, &problem); err != nil {
				got = err.Error()
			}
			if got != test.err || out.String() != test.out || problem.String() != test.problem {
				t.Errorf("got %q, %q, %q", got, out.String(), problem.String())
			}
		})
	}
	if err := Unlock(t.TempDir())(t.Context(), nil, nil); err != nil {
		t.Errorf("without records: %v", err)
	}
}
