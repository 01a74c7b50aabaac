package checks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/lib/report"
)

// ConfigName is the name of the built-in check of the config's stages.
const ConfigName = "config"

// ConfigStages returns the built-in check that no stage of the node's config
// has failed in a way that counts: in a config that is strict, in one that
// says assess: required, or by running with other configs than were staged.
// It judges what has ended when it runs.
func ConfigStages(root string) func(context.Context, io.Writer, io.Writer) error {
	return func(_ context.Context, _, problem io.Writer) error {
		stages, err := report.ReadDir[report.Stage](root, report.ConfigDir)
		if err != nil {
			return err
		}
		var failed []string
		for _, r := range stages {
			failed = append(failed, failures(r)...)
		}
		for _, line := range failed {
			fmt.Fprintln(problem, line)
		}
		switch len(failed) {
		case 0:
			return nil
		case 1:
			return errors.New("a step failed")
		}
		return fmt.Errorf("%d steps failed", len(failed))
	}
}

// failures says what counts, a line each.
func failures(r report.Stage) []string {
	var list []string
	for _, s := range r.Steps {
		if s.Outcome != report.Failed || !s.Assessed && !r.HardFailed {
			continue
		}
		line := fmt.Sprintf("stage %s, step %s (%s:%d) failed", s.Stage, s.Name, s.File, s.Line)
		if len(s.Errors) > 0 {
			line += ": " + s.Errors[0]
		}
		list = append(list, line)
	}
	if r.HardFailed && len(list) == 0 {
		line := "stage " + r.Stage + " failed"
		for _, p := range r.Problems {
			if p.Severity == report.Error {
				line += ": " + p.Message
				break
			}
		}
		list = append(list, line)
	}
	return list
}
