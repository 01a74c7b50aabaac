package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/report"
)

func TestWritablePaths(t *testing.T) {
	const (
		table = "22 1 0:20 / / ro - overlay overlay ro\n" +
			"23 22 0:21 / /etc rw,relatime shared:1 - overlay overlay rw\n" +
			"24 22 0:22 / /srv/a\\040b rw - tmpfs tmpfs rw\n"
		etc    = `{"path":"/etc","target":"/etc"}`
		spaced = `{"path":"/srv/a b","target":"/srv/a b"}`
		gone   = `{"path":"/home","target":"/home"}`
	)
	for name, test := range map[string]struct{ report, mounts, err, out, problem string }{
		"all there":       {`{"writable":true,"mounts":[` + etc + `,` + spaced + `]}`, table, "", "", ""},
		"one unmounted":   {`{"writable":true,"mounts":[` + etc + `,` + gone + `]}`, table, "missing mounts: 1 of 2", "", "/home is not mounted any more\n"},
		"never mounted":   {`{"writable":false}`, table, "the writable paths were not mounted", "", ""},
		"no data disk":    {`{"writable":true,"degraded":[{"what":"COS_PERSISTENT","reason":"absent"}]}`, table, "", "COS_PERSISTENT: absent\n", ""},
		"damaged":         {`{`, table, "read /run/kairos/root.json: unexpected end of JSON input", "", ""},
		"too large":       {strings.Repeat(" ", 16<<20+1), table, "read /run/kairos/root.json: larger than 16 MiB", "", ""},
		"nothing mounted": {`{"writable":true,"mounts":[` + etc + `]}`, "", "missing mounts: 1 of 1", "", "/etc is not mounted any more\n"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range map[string]string{report.RootFile: test.report, mountInfo: test.mounts} {
				file = filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var out, problem strings.Builder
			got := ""
			if err := WritablePaths(root)(t.Context(), &out, &problem); err != nil {
				got = strings.Replace(err.Error(), root, "", 1)
			}
			if got != test.err || out.String() != test.out || problem.String() != test.problem {
				t.Errorf("got %q, %q, %q", got, out.String(), problem.String())
			}
		})
	}
	if err := WritablePaths(t.TempDir())(t.Context(), nil, nil); err != nil {
		t.Errorf("without a report: %v", err)
	}
}

func FuzzMountPoints(f *testing.F) {
	f.Add("23 22 0:21 / /srv/a\\040b rw - tmpfs tmpfs rw\n")
	f.Add("1 2 3 4 \\")
	f.Add("1 2 3 4 \\777 \\04")
	f.Fuzz(func(t *testing.T, text string) {
		for point := range mountPoints(text) {
			if len(point) > len(text) {
				t.Errorf("mount point %q is longer than its source", point)
			}
		}
	})
}
