package report

import "time"

// ConfigDir is the directory of the records of this boot's stages, which
// kairos-config(8) writes: one file STAGE.json each. They are world-readable and
// contain no values of configs.
const ConfigDir = Dir + "/config"

// Outcome is the result of a step or a stage.
type Outcome string

const (
	Running Outcome = "running" // has not ended, or was killed
	Done    Outcome = "done"
	Skipped Outcome = "skipped" // a condition was not met
	Failed  Outcome = "failed"  // at least in part
)

// Stage is the record of a stage.
type Stage struct {
	Stage      string    `json:"stage"`
	Outcome    Outcome   `json:"outcome"`     // failed: a step failed, or a config could not be read
	HardFailed bool      `json:"hard_failed"` // a step of a strict config failed
	Started    time.Time `json:"started"`
	DurationMS int64     `json:"duration_ms"`
	Steps      []Step    `json:"steps"`
	Problems   []Problem `json:"problems"` // of configs as a whole
}

// Step is the record of a step.
type Step struct {
	Stage      string    `json:"stage"` // with .before or .after
	Name       string    `json:"name"`
	File       string    `json:"file"`
	Line       int       `json:"line"`
	Outcome    Outcome   `json:"outcome"`
	Assessed   bool      `json:"assessed"`         // a failure counts as a failed health check of the boot
	Reason     string    `json:"reason,omitempty"` // why the step was skipped
	DurationMS int64     `json:"duration_ms"`
	Changed    []string  `json:"changed"` // changed paths, users and units
	Errors     []string  `json:"errors"`
	Problems   []Problem `json:"problems"`
}

// Severity is the severity of a problem.
type Severity string

const (
	Error   Severity = "error"   // the value cannot be used
	Warning Severity = "warning" // the value is used, or left out with a notice
)

// Problem is a problem in a config.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// ConfigCopies is the directory in which kairos-config(8) keeps the configs that it
// fetched for config_url: those of this boot and, in a hidden directory of the same
// name on COS_OEM, the last good ones.
const ConfigCopies, KeptConfigCopies = Dir + "/config-url", ".config-url"
