// Package boots holds the types of the history of boots that kairos-boot-assess(8)
// keeps and prints with --json.
package boots

import (
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
)

// History is the object that kairos-boot-assess history prints.
type History struct {
	Persistent bool    `json:"persistent"` // whether the history survives a reboot
	Boots      []Boot  `json:"boots"`      // newest first
	Fallbacks  []Event `json:"fallbacks"`  // newest first
}

// Boot is everything known about one boot.
type Boot struct {
	BootID      string    `json:"boot_id"`
	SoftReboots int       `json:"soft_reboots,omitempty"` // soft reboots before this one, with the same boot id
	Started     time.Time `json:"started"`                // when kairos-boot-assess recorded the boot, early in it
	Start
	Verdict
	Assessed time.Time `json:"assessed,omitzero"`   // time of the verdict
	UptimeMS int64     `json:"uptime_ms,omitempty"` // time from the start of the kernel to the verdict
	Running  string    `json:"running,omitempty"`   // name of the check that runs now
}

// Tries returns the number of this try and the total number of tries: 2 of 3.
func (t Trial) Tries() (this, all int) { return t.TriesDone, t.TriesDone + t.TriesLeft }

// Kind is the type of an event.
type Kind string

const (
	KindStart    Kind = "start"    // a boot has mounted its local file systems
	KindVerdict  Kind = "verdict"  // a boot got a verdict
	KindFallback Kind = "fallback" // a deployment has used up its tries
	KindHooks    Kind = "hooks"    // the operator's programs were run after a fallback
)

// Event is one line of the history. Exactly one of the pointers is set, the one that
// Kind names.
type Event struct {
	Kind     Kind      `json:"event"`
	Time     time.Time `json:"time"`
	BootID   string    `json:"boot_id"`
	UptimeMS int64     `json:"uptime_ms"` // since the kernel started
	// SoftReboots is how many soft reboots this boot had before.
	SoftReboots int       `json:"soft_reboots,omitempty"`
	Start       *Start    `json:"start,omitempty"`
	Verdict     *Verdict  `json:"verdict,omitempty"`
	Fallback    *Fallback `json:"fallback,omitempty"`
	Hooks       *Hooks    `json:"hooks,omitempty"`
}

// Start describes the booted deployment.
type Start struct {
	Deployment     string          `json:"deployment"`      // id, "" when unknown
	Version        string          `json:"version"`         // of the image
	Reference      string          `json:"reference"`       // source of the image
	ImageDigest    string          `json:"image_digest"`    // sha256:HEX
	ManifestDigest string          `json:"manifest_digest"` // sha256:HEX, "" when unknown
	Entry          string          `json:"entry"`           // base name of the boot entry
	Mode           deployment.Mode `json:"mode"`            // active or passive
	Trial          Trial           `json:"trial"`           // the boot loader's counters
}

// Trial describes the boot counting of one boot.
type Trial struct {
	Counted     bool   `json:"counted"`               // the boot used up a try and waits for a verdict
	Uncounted   string `json:"uncounted,omitempty"`   // why the boot is not counted
	TriesLeft   int    `json:"tries_left"`            // after this boot
	TriesDone   int    `json:"tries_done"`            // with this boot
	Alternative string `json:"alternative,omitempty"` // the entry that boots once no tries are left, "" when there is none
}

// Outcome is the result of a boot.
type Outcome string

const (
	Good     Outcome = "good"
	Bad      Outcome = "bad"
	None     Outcome = "none"     // the boot ended without a verdict
	Pending  Outcome = "pending"  // the running boot, before its verdict
	Unjudged Outcome = "unjudged" // recovery and live systems, which get no verdict
)

// Verdict is the result of an assessment, with the reason.
type Verdict struct {
	Outcome    Outcome `json:"verdict"` // good or bad
	Reason     string  `json:"reason,omitempty"`
	Marked     bool    `json:"marked,omitempty"` // set by an operator
	Checks     []Check `json:"checks,omitempty"`
	DurationMS int64   `json:"duration_ms"` // of the assessment
}

// Fallback says that a deployment used up its tries and another one booted.
type Fallback struct {
	From           string `json:"from"` // id of the deployment that failed
	FromVersion    string `json:"from_version"`
	To             string `json:"to"`
	ToVersion      string `json:"to_version"`
	Reason         string `json:"reason"`
	Tries          int    `json:"tries"` // tries that were used
	ManifestDigest string `json:"manifest_digest,omitempty"`
	Quarantined    bool   `json:"quarantined"`
	NotQuarantined string `json:"not_quarantined,omitempty"` // why the image is not in the quarantine
	// TriedAgain says that none of its boots got a verdict: one more deployment of the
	// image is tried before the image is refused.
	TriedAgain bool   `json:"tried_again,omitempty"`
	FailedBoot *Trace `json:"failed_boot,omitempty"`
}

// Trace is what the last boot of a failed deployment has left behind.
type Trace struct {
	BootID string `json:"boot_id,omitempty"` // "" when none of its boots was recorded
	// Journal has the last lines of that boot's journal before the verdict, or before
	// the end of the boot.
	Journal   []string `json:"journal,omitempty"`
	NoJournal string   `json:"no_journal,omitempty"` // why there are no such lines
	// Kernel has the last lines that the kernel saved in a crash, and where they are
	// stored.
	Kernel     []string `json:"kernel,omitempty"`
	KernelFile string   `json:"kernel_file,omitempty"`
	NoKernel   string   `json:"no_kernel,omitempty"` // why there are no such lines
}

// Hooks says that the operator's programs were run after a fallback.
type Hooks struct {
	Fallback time.Time `json:"fallback"` // time of the event of the fallback
	Results  []Check   `json:"results"`
}

// String describes the fallback for people.
func (f Fallback) String() string {
	s := fmt.Sprintf("fell back from %s to %s: %s", Named(f.From, f.FromVersion), Named(f.To, f.ToVersion), f.Reason)
	if f.NotQuarantined != "" {
		s += "; not quarantined: " + f.NotQuarantined
	}
	if f.TriedAgain {
		s += "; it is tried once more before it is refused"
	}
	return s
}

// Named returns the name of a deployment for people.
func Named(id, version string) string {
	switch {
	case id == "":
		return "an unknown deployment"
	case version == "":
		return id
	}
	return fmt.Sprintf("%s (%s)", id, version)
}

// CheckState is the result of a health check.
type CheckState string

const (
	Passed   CheckState = "passed"
	Failed   CheckState = "failed"
	TimedOut CheckState = "timed_out"
)

// Check is a health check with its result.
type Check struct {
	Name       string     `json:"name"`
	Source     string     `json:"source"` // path, or "built-in"
	Required   bool       `json:"required"`
	State      CheckState `json:"state"`
	Detail     string     `json:"detail,omitempty"`  // how the check failed: "exit status 1"
	Message    string     `json:"message,omitempty"` // the last line of its output about the failure
	Output     []string   `json:"output,omitempty"`  // the last lines of its output
	DurationMS int64      `json:"duration_ms"`
}

// OK reports whether the check passed.
func (r Check) OK() bool { return r.State == Passed }

// String describes the failure in one line.
func (r Check) String() string {
	kind := "wanted"
	if r.Required {
		kind = "required"
	}
	ended := map[CheckState]string{Passed: "passed", Failed: "failed: ", TimedOut: "timed out "}[r.State]
	s := fmt.Sprintf("%s check %s %s%s", kind, r.Name, ended, r.Detail)
	if r.Message != "" {
		s += ": " + r.Message
	}
	return s
}
