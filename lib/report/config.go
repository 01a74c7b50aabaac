package report

import "time"

// ConfigDir is where kairos-config(8) keeps the records of the stages of this
// boot, one file STAGE.json each. Everybody may read them: they hold no values of
// configs.
const ConfigDir = Dir + "/config"

// Outcome says how a step or a stage ended.
type Outcome string

const (
	Running Outcome = "running" // not ended, or killed
	Done    Outcome = "done"
	Skipped Outcome = "skipped" // a condition did not hold
	Failed  Outcome = "failed"  // in part at least
)

// Stage is what a stage did.
type Stage struct {
	Stage      string    `json:"stage"`
	Outcome    Outcome   `json:"outcome"`     // failed: a step failed, or a config could not be read
	HardFailed bool      `json:"hard_failed"` // a step of a strict config failed
	Started    time.Time `json:"started"`
	DurationMS int64     `json:"duration_ms"`
	Steps      []Step    `json:"steps"`
	Problems   []Problem `json:"problems"` // of configs as a whole
}

// Step is what a step did.
type Step struct {
	Stage      string    `json:"stage"` // with .before or .after
	Name       string    `json:"name"`
	File       string    `json:"file"`
	Line       int       `json:"line"`
	Outcome    Outcome   `json:"outcome"`
	Assessed   bool      `json:"assessed"`         // a failure counts as a failed health check of the boot
	Reason     string    `json:"reason,omitempty"` // why it was skipped
	DurationMS int64     `json:"duration_ms"`
	Changed    []string  `json:"changed"` // paths, users, units
	Errors     []string  `json:"errors"`
	Problems   []Problem `json:"problems"`
}

// Severity says whether a problem spoils what it was found in.
type Severity string

const (
	Error   Severity = "error"   // the value can't be used
	Warning Severity = "warning" // the value is used, or left out with notice
)

// Problem is something wrong with a config.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// ConfigCopies is where kairos-config(8) keeps what it has fetched for config_url:
// of this boot, and, with the directory's name hidden, the last good ones on
// COS_OEM.
const ConfigCopies, KeptConfigCopies = Dir + "/config-url", ".config-url"
