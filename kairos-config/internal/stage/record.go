package stage

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/report"
)

// Outcome is the result of a step or a stage.
type Outcome = report.Outcome

const (
	Running, Done, Skipped, Failed = report.Running, report.Done, report.Skipped, report.Failed
)

// Record is the record of a stage.
type Record = report.Stage

// StepRecord is the record of a step.
type StepRecord = report.Step

// ProblemRecord is a diag.Problem.
type ProblemRecord = report.Problem

// ProblemRecords converts problems to their records.
func ProblemRecords(problems diag.List) []ProblemRecord {
	list := make([]ProblemRecord, 0, len(problems))
	for _, p := range problems {
		list = append(list, ProblemRecord{
			File: p.Pos.Source, Line: p.Pos.Line, Column: p.Pos.Column, Severity: p.Severity, Message: mask.Text(p.Message), Hint: mask.Text(p.Hint),
		})
	}
	return list
}

// Validation is the result of a validation of configs.
type Validation struct {
	Valid    bool      `json:"valid"`
	Problems []Finding `json:"problems"`
}

// Finding is a problem with its line, secrets masked.
type Finding struct {
	ProblemRecord
	Text string `json:"text,omitempty"`
}

// Migration is the list of verdicts on the configs of a Kairos node.
type Migration struct {
	Ready  bool                   `json:"ready"` // no key has to be changed
	Keys   []MigratedKey          `json:"keys"`
	Counts map[schema.Verdict]int `json:"counts"`
}

// MigratedKey is the verdict on one key, or on a whole file.
type MigratedKey struct {
	File    string         `json:"file"`
	Line    int            `json:"line,omitempty"`
	Key     string         `json:"key,omitempty"`
	Verdict schema.Verdict `json:"verdict"`
	Text    string         `json:"text,omitempty"`
}

// Applied lists the steps that can be applied without a reboot, or that were.
type Applied struct {
	Steps   []StepName `json:"steps"`
	Reboot  []StepName `json:"reboot"`           // steps that need a reboot
	Record  *Record    `json:"record,omitempty"` // the results
	Applied bool       `json:"applied"`
}

// StepName identifies a step.
type StepName struct {
	Stage  string `json:"stage"`
	Name   string `json:"name"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Reason string `json:"reason,omitempty"` // why the step needs a reboot
}

// masked is a record without secrets: everybody may read it.
func masked(r *Record) Record {
	public := *r
	public.Steps = slices.Clone(r.Steps)
	for i := range public.Steps {
		s := &public.Steps[i]
		s.Name, s.Reason, s.File = mask.Text(s.Name), mask.Text(s.Reason), mask.Text(s.File)
		s.Changed, s.Errors = maskedTexts(s.Changed), maskedTexts(s.Errors)
	}
	return public
}

func maskedTexts(list []string) []string {
	public := make([]string, len(list))
	for i, text := range list {
		public[i] = mask.Text(text)
	}
	return public
}

// save writes a record beneath a root.
func save(r *Record, root *rootfs.Root) error {
	data, err := json.Marshal(masked(r))
	if err != nil {
		return fmt.Errorf("record stage %s: %w", r.Stage, err)
	}
	attr := rootfs.Attr{Mode: 0o755, UID: rootfs.Keep, GID: rootfs.Keep}
	if _, err := root.Mkdir(report.ConfigDir, attr); err != nil {
		return fmt.Errorf("record stage %s: %w", r.Stage, err)
	}
	attr.Mode = 0o644
	if _, err := root.WriteFile(path.Join(report.ConfigDir, r.Stage+".json"), append(data, '\n'), attr); err != nil {
		return fmt.Errorf("record stage %s: %w", r.Stage, err)
	}
	return nil
}

// Records returns the records beneath a root, in the order in which the stages ran.
func Records(root *rootfs.Root) ([]Record, error) {
	records, err := report.ReadDir[Record](root.Path(), report.ConfigDir)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	slices.SortStableFunc(records, func(a, b Record) int { return a.Started.Compare(b.Started) })
	return records, nil
}
