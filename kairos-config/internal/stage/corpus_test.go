package stage

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/credential"
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
)

// anything stands for all servers: of keys, and of empty files.
type anything struct{}

func (anything) Get(_ context.Context, address string, w io.Writer, _ int64) error {
	if !strings.HasSuffix(address, ".keys") {
		return nil
	}
	_, err := io.WriteString(w, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE any@example.org\n")
	return err
}

// machine matches what a step says that needs more than a root in a directory:
// a shell in it, a disk, a service manager, a unit of an image. The end-to-end
// tests have these.
var machine = regexp.MustCompile(`fork/exec /bin/sh: no such file|works in the running system only|in the booted system only|unit \S+ does not exist|^git /\S+: |^packages: `)

// TestCorpusIsApplied applies each config of the corpus to a root, twice.
// Nothing fails but what needs a machine, something is done by all that have
// steps, and the second time nothing is.
func TestCorpusIsApplied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	names, err := filepath.Glob("../../testdata/corpus/*.yaml")
	if err != nil || len(names) < 40 {
		t.Fatal(len(names), err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) { applyTwice(t, name) })
	}
}

var credentialNames = regexp.MustCompile(`\$\{credential:([^}]+)\}`)

func applyTwice(t *testing.T, name string) {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, map[string]string{"90.yaml": string(data)})
	n.write("etc/group", n.read("etc/group")+"systemd-network:x:998:\n")
	n.Get = anything{}
	credentials := t.TempDir()
	for _, match := range credentialNames.FindAllStringSubmatch(string(data), -1) {
		if err := os.WriteFile(filepath.Join(credentials, "kairos."+match[1]), []byte("s3cret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill := Fill{Templates: template.New(facts.Sample), Credentials: credential.In(credentials)}
	steps, done := 0, 0
	for _, again := range []bool{false, true} {
		for _, stage := range bootStages {
			for _, s := range n.Run(t.Context(), NewPlan(source.Collect(n.Root), stage, fill)).Steps {
				if again && len(s.Changed) > 0 {
					t.Errorf("stage %s, step %s changed %q the second time", stage, s.Name, s.Changed)
				}
				steps++
				if len(s.Changed)+len(s.Errors) > 0 || s.Outcome == Skipped {
					done++
				}
				for _, e := range s.Errors {
					if !machine.MatchString(e) {
						t.Errorf("stage %s, step %s: %s", stage, s.Name, e)
					}
				}
				if i := slices.IndexFunc(s.Problems, func(p ProblemRecord) bool { return p.Severity == diag.Error }); i >= 0 {
					t.Errorf("stage %s, step %s: %+v", stage, s.Name, s.Problems[i])
				}
			}
		}
	}
	if steps > 0 && done == 0 {
		t.Errorf("none of %d steps did anything", steps)
	}
	if strings.Contains(n.log.String(), "s3cret") {
		t.Errorf("the log has a secret:\n%s", n.log)
	}
}
