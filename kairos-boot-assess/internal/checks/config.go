package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ConfigName is the name of the built-in check of the config's stages.
const ConfigName = "config"

// configRecords is where kairos-config(8) records what its stages did, beneath
// the root of the system.
const configRecords = "run/kairos/config"

// configRecord is the part of a record that says whether a stage failed in a
// way that counts.
type configRecord struct {
	Stage      string `json:"stage"`
	HardFailed bool   `json:"hard_failed"`
	Problems   []struct {
		Severity string `json:"severity"`
		Message  string `json:"message"`
	} `json:"problems"`
	Steps []struct {
		Stage    string   `json:"stage"`
		Name     string   `json:"name"`
		File     string   `json:"file"`
		Line     int      `json:"line"`
		Outcome  string   `json:"outcome"`
		Assessed bool     `json:"assessed"`
		Errors   []string `json:"errors"`
	} `json:"steps"`
}

// ConfigStages returns the built-in check that no stage of the node's config
// has failed in a way that counts: in a config that is strict, in one that
// says assess: required, or by running with other configs than were staged.
// It judges what has ended when it runs.
func ConfigStages(root string) func(context.Context, io.Writer, io.Writer) error {
	return func(_ context.Context, _, problem io.Writer) error {
		var failed []string
		err := records(root, configRecords, func(r configRecord) {
			for _, line := range r.failures() {
				failed = append(failed, line)
				fmt.Fprintln(problem, line)
			}
		})
		if err != nil {
			return err
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
func (r configRecord) failures() []string {
	var list []string
	for _, s := range r.Steps {
		if s.Outcome != "failed" || !s.Assessed && !r.HardFailed {
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
			if p.Severity == "error" {
				line += ": " + p.Message
				break
			}
		}
		list = append(list, line)
	}
	return list
}
