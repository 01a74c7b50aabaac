package stage

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/fetch"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"github.com/kairos-io/toolkit/lib/report"
)

// TestNoSecretLeaves: addresses with logins, options, and what commands print are
// hidden in the log, in the record that everybody may read, and in what the stage
// returns.
func TestNoSecretLeaves(t *testing.T) {
	const config = `stages:
  network:
  - name: fetch from https://hunter2@192.0.2.1/
    authorized_keys: {root: ['http://u:hunter2@127.0.0.1:1/k?token=hunter2']}
    downloads: [{url: 'http://hunter2@127.0.0.1:1/f?sig=hunter2', path: /srv/f}]
    unpack_images: [{source: 'docker://u:hunter2@127.0.0.1:1/x', target: /srv/i}]
    git: {url: 'http://hunter2@127.0.0.1:1/r', path: /srv/r}
    commands: ['echo TOKEN=hunter2; echo get https://u:hunter2@h/ >&2', 'false --token hunter2']
  - {name: conditional, if: 'echo PASSWORD=hunter2; false'}
`
	n := newNode(t, map[string]string{"1.yaml": config})
	testroot.WithShell(t, n.dir)
	n.Get, n.Booted = fetch.Client{}, true
	record := n.Run(context.Background(), NewPlan(source.Collect(n.Root), "network", Fill{}))
	if len(record.Steps) != 2 || len(record.Steps[0].Errors) < 4 {
		t.Errorf("the test is not what it was: %+v", record.Steps)
	}
	returned, _ := json.Marshal(record)
	kept, err := os.ReadFile(filepath.Join(n.dir, report.ConfigDir, "network.json"))
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"the log": n.log.String(), "the record": string(kept), "what is returned": string(returned)} {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "hunter2") {
				t.Errorf("in %s: %s", what, line)
			}
		}
	}
}
