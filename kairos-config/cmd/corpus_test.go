package cmd

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

var update = flag.Bool("update", false, "write golden files")

// told returns what validate prints of a config in the current directory.
func told(name string) (string, diag.List) {
	problems := check(name)
	var out bytes.Buffer
	excerpt := newExcerpt(name, problems)
	for _, p := range problems {
		excerpt.print(&out, p)
	}
	return out.String(), problems
}

func configs(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("../testdata", dir, "*.yaml"))
	if err != nil || len(names) < 40 {
		t.Fatalf("%s has %d configs, want 40 at least: %v", dir, len(names), err)
	}
	t.Chdir(filepath.Join("../testdata", dir))
	for i, n := range names {
		names[i] = filepath.Base(n)
	}
	return names
}

// TestCorpus: all are valid.
func TestCorpus(t *testing.T) {
	for _, name := range configs(t, "corpus") {
		if out, problems := told(name); problems.Failed() {
			t.Error(out)
		}
	}
}

// TestBrokenTwins: each config of the corpus has a twin with one mistake, and
// what validate prints of it is in NAME.txt, to the letter.
func TestBrokenTwins(t *testing.T) {
	sound := configs(t, "corpus")
	t.Chdir("../broken")
	for _, name := range sound {
		got, problems := told(name)
		golden := strings.TrimSuffix(name, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !problems.Failed() || got != string(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}
