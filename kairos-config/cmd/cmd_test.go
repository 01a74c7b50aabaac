package cmd

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/compare"
	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/report/reporttest"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kairos-config": func() { cmdlinetest.Main(App()) }})
}

// TestScripts runs the command line against roots that the scripts hold.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Geteuid() == 0, nil
		},
	})
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) {
	cmdlinetest.Definitions(t, App())
	// Scripts have no node whose configs could be staged.
	g := &generation.Generation{ID: "g", Number: 2, Created: time.Now(), Base: "b", Files: []generation.File{{Name: "n"}}, Removed: []string{"r"}}
	change := []compare.Change{{Key: "k", Before: "b", After: "a", Origin: "o"}}
	step := []stage.StepName{{}}
	for command, result := range map[string]any{
		"stage": staged{"g", g}, "discard": changed{}, "rollback": changed{"g"}, "diff": compare.Result{Values: change, Files: change},
		"apply": stage.Applied{Steps: step, Reboot: step, Applied: true, Record: &stage.Record{
			Outcome: stage.Done, Started: time.Now(), Steps: []report.Step{}, Problems: []report.Problem{{Severity: report.Error}},
		}},
	} {
		text, err := json.Marshal(result)
		if err == nil {
			err = reporttest.Check(text, "kairos-config", command)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
