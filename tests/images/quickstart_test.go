package images

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// instruction is a line of a Containerfile.
type instruction struct{ verb, args string }

// containerfile reads as much of a Containerfile as the quickstart needs: comments, lines that go on, and
// FROM, RUN and COPY in their shell forms.
func containerfile(r io.Reader) (all []instruction, err error) {
	lines := bufio.NewScanner(r)
	for joined := ""; lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "#") || line == "" && joined == "" {
			continue
		}
		more, goesOn := strings.CutSuffix(line, "\\")
		if joined += more; goesOn {
			continue
		}
		verb, args, _ := strings.Cut(joined, " ")
		switch verb {
		case "FROM", "RUN", "COPY":
		default:
			return nil, fmt.Errorf("instruction %q", verb)
		}
		all = append(all, instruction{verb, strings.TrimSpace(args)})
		joined = ""
	}
	return all, lines.Err()
}

// installed returns the packages that a RUN installs, nil if it is another one.
func (i instruction) installed() []string {
	list, ok := strings.CutPrefix(i.args, "apt-get update && apt-get install -y --no-install-recommends ")
	if i.verb != "RUN" || !ok {
		return nil
	}
	return strings.Fields(list)
}

func TestContainerfile(t *testing.T) {
	have, err := containerfile(strings.NewReader("# comment\nFROM debian:x\n\nRUN a && \\\n    b \\\n  # within\n    c\nCOPY x/ /\n"))
	want := []instruction{{"FROM", "debian:x"}, {"RUN", "a && b c"}, {"COPY", "x/ /"}}
	if err != nil || !reflect.DeepEqual(have, want) {
		t.Errorf("%q, %v", have, err)
	}
	if _, err := containerfile(strings.NewReader("FROM x\nENV a=b\n")); err == nil {
		t.Error("an instruction that the tests do not know passes")
	}
}

// What the quickstart installs has all that the node of the other tests has and needs, and what README
// says is what lies there.
func TestQuickstartFiles(t *testing.T) {
	f, err := os.Open(filepath.Join(workspace.Top(), "doc/quickstart/Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := containerfile(f)
	if err != nil {
		t.Fatal(err)
	}
	packages := all[1].installed()
	// Of the tests alone: another kernel, another compressor, conveniences.
	without := strings.Fields("linux-image-cloud-amd64 lz4 iputils-ping nftables git less procps vim-tiny")
	for _, name := range packageNames(basePackages) {
		if !slices.Contains(packages, name) && !slices.Contains(without, name) {
			t.Errorf("%s is not installed", name)
		}
	}
	for _, i := range all {
		from, _, _ := strings.Cut(i.args, " ")
		if i.verb != "COPY" || from == "build/root/" {
			continue
		}
		if _, err := os.Stat(filepath.Join(workspace.Top(), from)); err != nil {
			t.Error(err)
		}
	}
	readme, err := os.ReadFile(filepath.Join(workspace.Top(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"doc/quickstart/Containerfile", "doc/quickstart/cloud-config.yaml"} {
		if !strings.Contains(string(readme), name) {
			t.Errorf("README does not name %s", name)
		}
	}
}
