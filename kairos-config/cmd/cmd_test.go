package cmd

import (
	"os"
	"testing"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kairos-config": func() { cmdline.Main(App()) }})
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
