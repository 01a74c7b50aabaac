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

// ConfigStages returns the built-in check of the stages of the node's config. It fails
// if a step failed in a strict config or has assess: required, or if the stages ran
// with other configs than the staged ones. It considers the stages that have ended.
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

// failures returns the failures that count, one a line.
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
