package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

// RecordDir is where the records of the stages of this boot are, one file
// STAGE.json each. Everybody may read them: they hold no values of configs.
const RecordDir = "/run/kairos/config"

// Outcome says how a step or a stage ended.
type Outcome string

const (
	Running Outcome = "running" // not ended, or killed
	Done    Outcome = "done"
	Skipped Outcome = "skipped" // a condition did not hold
	Failed  Outcome = "failed"  // in part at least
)

// Record is what a stage did.
type Record struct {
	Stage      string          `json:"stage"`
	Outcome    Outcome         `json:"outcome"`     // failed: a step failed, or a config could not be read
	HardFailed bool            `json:"hard_failed"` // a step of a strict config failed
	Started    time.Time       `json:"started"`
	DurationMS int64           `json:"duration_ms"`
	Steps      []StepRecord    `json:"steps"`
	Problems   []ProblemRecord `json:"problems"` // of configs as a whole
}

// StepRecord is what a step did.
type StepRecord struct {
	Stage      string          `json:"stage"` // with .before or .after
	Name       string          `json:"name"`
	File       string          `json:"file"`
	Line       int             `json:"line"`
	Outcome    Outcome         `json:"outcome"`
	Assessed   bool            `json:"assessed"`         // a failure counts as a failed health check of the boot
	Reason     string          `json:"reason,omitempty"` // why it was skipped
	DurationMS int64           `json:"duration_ms"`
	Changed    []string        `json:"changed"` // paths, users, units
	Errors     []string        `json:"errors"`
	Problems   []ProblemRecord `json:"problems"`
}

// ProblemRecord is a diag.Problem.
type ProblemRecord struct {
	File     string        `json:"file"`
	Line     int           `json:"line,omitempty"`
	Column   int           `json:"column,omitempty"`
	Severity diag.Severity `json:"severity"`
	Message  string        `json:"message"`
	Hint     string        `json:"hint,omitempty"`
}

// ProblemRecords turns problems into what is recorded of them.
func ProblemRecords(problems diag.List) []ProblemRecord {
	list := make([]ProblemRecord, 0, len(problems))
	for _, p := range problems {
		list = append(list, ProblemRecord{p.Pos.Source, p.Pos.Line, p.Pos.Column, p.Severity, mask.Text(p.Message), mask.Text(p.Hint)})
	}
	return list
}

// Validation is what the check of configs found.
type Validation struct {
	Valid    bool      `json:"valid"`
	Problems []Finding `json:"problems"`
}

// Finding is a problem with the line that it was found in, secrets masked.
type Finding struct {
	ProblemRecord
	Text string `json:"text,omitempty"`
}

// Migration is what becomes of the configs of a Kairos node.
type Migration struct {
	Ready  bool                   `json:"ready"` // nothing must change
	Keys   []MigratedKey          `json:"keys"`
	Counts map[schema.Verdict]int `json:"counts"`
}

// MigratedKey is what becomes of one key, or of a whole file.
type MigratedKey struct {
	File    string         `json:"file"`
	Line    int            `json:"line,omitempty"`
	Key     string         `json:"key,omitempty"`
	Verdict schema.Verdict `json:"verdict"`
	Text    string         `json:"text,omitempty"`
}

// Applied is what can be applied without a reboot, or was.
type Applied struct {
	Steps   []StepName `json:"steps"`
	Reboot  []StepName `json:"reboot"`           // that need one
	Record  *Record    `json:"record,omitempty"` // what was done
	Applied bool       `json:"applied"`
}

// StepName tells a step from others.
type StepName struct {
	Stage  string `json:"stage"`
	Name   string `json:"name"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Reason string `json:"reason,omitempty"` // why it needs a reboot
}

// masked is a record without secrets: everybody may read it.
func (r *Record) masked() Record {
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

// Save writes the record beneath a root.
func (r *Record) Save(root *rootfs.Root) error {
	data, err := json.Marshal(r.masked())
	if err != nil {
		return fmt.Errorf("record stage %s: %w", r.Stage, err)
	}
	attr := rootfs.Attr{Mode: 0o755, UID: rootfs.Keep, GID: rootfs.Keep}
	if _, err := root.Mkdir(RecordDir, attr); err != nil {
		return fmt.Errorf("record stage %s: %w", r.Stage, err)
	}
	attr.Mode = 0o644
	if _, err := root.WriteFile(path.Join(RecordDir, r.Stage+".json"), append(data, '\n'), attr); err != nil {
		return fmt.Errorf("record stage %s: %w", r.Stage, err)
	}
	return nil
}

// Records returns the records beneath a root, in the order in which the
// stages ran.
func Records(root *rootfs.Root) ([]Record, error) {
	entries, err := root.ReadDir(RecordDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	var records []Record
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		data, err := root.ReadFile(path.Join(RecordDir, e.Name()), 16<<20)
		if err != nil {
			return nil, fmt.Errorf("read records: %w", err)
		}
		var r Record
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("read %s/%s: %w", RecordDir, e.Name(), err)
		}
		records = append(records, r)
	}
	slices.SortStableFunc(records, func(a, b Record) int { return a.Started.Compare(b.Started) })
	return records, nil
}
