package checks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
)

// ConfigName is the name of the built-in check of the config's stages.
const ConfigName = "config"

// configRecords is where kairos-config(8) records what its stages did, beneath
// the root of the system.
const configRecords = "run/kairos/config"

// maxConfigRecord bounds a record, in bytes.
const maxConfigRecord = 16 << 20

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
		system, err := os.OpenRoot(root)
		if err != nil {
			return err
		}
		defer system.Close()
		dir, err := system.Open(configRecords)
		if errors.Is(err, os.ErrNotExist) {
			return nil // no stage has run
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return err
		}
		slices.Sort(names)
		var failed []string
		for _, name := range names {
			if path.Ext(name) != ".json" {
				continue
			}
			r, err := readConfigRecord(system, path.Join(configRecords, name))
			if err != nil {
				return err
			}
			for _, line := range r.failures() {
				failed = append(failed, line)
				fmt.Fprintln(problem, line)
			}
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

func readConfigRecord(system *os.Root, name string) (configRecord, error) {
	var r configRecord
	f, err := system.Open(name)
	if err != nil {
		return r, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigRecord))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read /%s: %w", name, err)
	}
	return r, nil
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
