package cmd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/rogpeppe/go-internal/testscript"
)

// The tools of the scripts are stand-ins that answer with what stands in files:
// what the real ones print is held by their own tests, and the schema of
// kairos-json(5).

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kairos": func() {
			booted := filepath.Join(os.Getenv("NODE"), "booted.json")
			if program, _ := delegate(os.Args[1:]); program == "" {
				cmdlinetest.Main(app(booted))
			}
			os.Exit(runOn(os.Args, booted))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NODE", e.WorkDir)
			e.Setenv("TZ", "UTC")
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("PATH", filepath.Join(e.WorkDir, "bin")+":"+e.Getenv("PATH"))
			programs, err := filepath.Glob(filepath.Join(e.WorkDir, "bin/*"))
			for _, program := range programs {
				err = errors.Join(err, os.Chmod(program, 0o755))
			}
			return err
		},
	})
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) { cmdlinetest.Definitions(t, app("")) }

// A word that is to be copied stays whole, and nothing else goes beyond the line.
func TestWrap(t *testing.T) {
	long := "sha256:" + strings.Repeat("0", 64)
	lines := wrap("one two "+long+" three "+strings.Repeat("ä", 5), 12)
	if strings.Join(lines, "|") != "one two|"+long+"|three äääää" {
		t.Errorf("%q", lines)
	}
}

// What the tools say does nothing to a terminal, in colour or not.
func TestForeignText(t *testing.T) {
	var out strings.Builder
	s := status{Failed: []failure{{"unit", "a\x1b]0;owned\a", "b\nruns"}}}
	s.print(&page{w: &out, colour: true})
	text := out.String()
	for _, code := range []string{green, yellow, red, "\x1b[0m"} {
		text = strings.ReplaceAll(text, code, "")
	}
	if terminal.Text(text) != text || strings.Contains(text, "\nruns") {
		t.Errorf("%q", out.String())
	}
}
