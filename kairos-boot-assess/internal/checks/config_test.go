package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/report"
)

func TestConfigStages(t *testing.T) {
	step := func(outcome, assessed string) string {
		return `{"stage":"boot","name":"s","file":"/oem/90.yaml","line":7,"outcome":"` + outcome + `","assessed":` + assessed + `,"errors":["command 1 of 1: exit status 3"]}`
	}
	const said = "stage boot, step s (/oem/90.yaml:7) failed: command 1 of 1: exit status 3\n"
	for _, c := range []struct{ name, record, err, said string }{
		{"nothing failed", `{"stage":"boot","hard_failed":false,"steps":[` + step("done", "true") + `]}`, "", ""},
		{"a failure that doesn't count", `{"stage":"boot","hard_failed":false,"steps":[` + step("failed", "false") + `]}`, "", ""},
		{"one that counts", `{"stage":"boot","hard_failed":false,"steps":[` + step("failed", "true") + `]}`, "a step failed", said},
		{"strict", `{"stage":"boot","hard_failed":true,"steps":[` + step("failed", "false") + `,` + step("skipped", "true") + `]}`, "a step failed", said},
		{"two", `{"stage":"boot","hard_failed":true,"steps":[` + step("failed", "false") + `,` + step("failed", "false") + `]}`, "2 steps failed", said + said},
		{"other configs", `{"stage":"fs","hard_failed":true,"steps":[],"problems":[{"severity":"error","message":"generation 1 is damaged"}]}`, "a step failed", "stage fs failed: generation 1 is damaged\n"},
		{"no record", ``, "read /run/kairos/config/boot.json: unexpected end of JSON input", ""},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, report.ConfigDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, report.ConfigDir, "boot.json"), []byte(c.record), 0o644); err != nil {
			t.Fatal(err)
		}
		var problem strings.Builder
		err := ConfigStages(root)(t.Context(), nil, &problem)
		if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err || problem.String() != c.said {
			t.Errorf("%s: got %v, %q", c.name, err, problem.String())
		}
	}
	if err := ConfigStages(t.TempDir())(t.Context(), nil, nil); err != nil {
		t.Errorf("no stage has run: %v", err)
	}
}
