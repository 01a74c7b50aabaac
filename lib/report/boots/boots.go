// Package boots holds what kairos-boot-assess(8) remembers of boots, and prints
// with --json.
package boots

import (
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
)

// History is what history prints.
type History struct {
	Persistent bool    `json:"persistent"` // whether it outlives a reboot
	Boots      []Boot  `json:"boots"`      // newest first
	Fallbacks  []Event `json:"fallbacks"`  // newest first
}

// Boot is everything that is known of one boot.
type Boot struct {
	BootID      string    `json:"boot_id"`
	SoftReboots int       `json:"soft_reboots,omitempty"` // before this one, with the same id
	Started     time.Time `json:"started"`                // when it was recorded, early in the boot
	Start
	Verdict
	Assessed time.Time `json:"assessed,omitzero"`   // when it was judged
	UptimeMS int64     `json:"uptime_ms,omitempty"` // when it was judged, since the kernel started
	Running  string    `json:"running,omitempty"`   // check that is running now
}

// Tries says which try a boot was and how many there were to be: 2 of 3.
func (t Trial) Tries() (this, all int) { return t.TriesDone, t.TriesDone + t.TriesLeft }

// Kind is what an event tells.
type Kind string

const (
	KindStart    Kind = "start"    // a boot came as far as its local file systems
	KindVerdict  Kind = "verdict"  // a boot was judged
	KindFallback Kind = "fallback" // a deployment was found to have used up its tries
	KindHooks    Kind = "hooks"    // the operator's programs were told of a fallback
)

// Event is one line. Exactly one of the pointers is set, as Kind says.
type Event struct {
	Kind     Kind      `json:"event"`
	Time     time.Time `json:"time"`
	BootID   string    `json:"boot_id"`
	UptimeMS int64     `json:"uptime_ms"` // since the kernel started
	// SoftReboots is how often the user space was started anew in this boot.
	SoftReboots int       `json:"soft_reboots,omitempty"`
	Start       *Start    `json:"start,omitempty"`
	Verdict     *Verdict  `json:"verdict,omitempty"`
	Fallback    *Fallback `json:"fallback,omitempty"`
	Hooks       *Hooks    `json:"hooks,omitempty"`
}

// Start says what was booted.
type Start struct {
	Deployment     string          `json:"deployment"`      // id, "" when unknown
	Version        string          `json:"version"`         // of the image
	Reference      string          `json:"reference"`       // where it came from
	ImageDigest    string          `json:"image_digest"`    // sha256:HEX
	ManifestDigest string          `json:"manifest_digest"` // sha256:HEX, "" when unknown
	Entry          string          `json:"entry"`           // base name of the boot entry
	Mode           deployment.Mode `json:"mode"`            // active or passive
	Trial          Trial           `json:"trial"`           // what the boot loader counted
}

// Trial says what the boot loader counted for a boot.
type Trial struct {
	Counted     bool   `json:"counted"`               // this boot used up a try and waits for a verdict
	Uncounted   string `json:"uncounted,omitempty"`   // why it is not counted
	TriesLeft   int    `json:"tries_left"`            // after this one
	TriesDone   int    `json:"tries_done"`            // with this one
	Alternative string `json:"alternative,omitempty"` // entry that boots once no tries are left, "" when there is none
}

// Outcome is what was decided about a boot.
type Outcome string

const (
	Good     Outcome = "good"
	Bad      Outcome = "bad"
	None     Outcome = "none"     // the boot ended before it was judged
	Pending  Outcome = "pending"  // the running boot, before its verdict
	Unjudged Outcome = "unjudged" // recovery and live systems
)

// Verdict is what was decided and why.
type Verdict struct {
	Outcome    Outcome `json:"verdict"` // good or bad
	Reason     string  `json:"reason,omitempty"`
	Marked     bool    `json:"marked,omitempty"` // given by hand
	Checks     []Check `json:"checks,omitempty"`
	DurationMS int64   `json:"duration_ms"` // of the assessment
}

// Fallback says that a deployment used up its tries and another was booted.
type Fallback struct {
	From           string `json:"from"` // deployment id
	FromVersion    string `json:"from_version"`
	To             string `json:"to"`
	ToVersion      string `json:"to_version"`
	Reason         string `json:"reason"`
	Tries          int    `json:"tries"` // that were made
	ManifestDigest string `json:"manifest_digest,omitempty"`
	Quarantined    bool   `json:"quarantined"`
	NotQuarantined string `json:"not_quarantined,omitempty"` // why not
	// TriedAgain says that no boot of it was judged, so that one more deployment of
	// the image is tried before it is refused.
	TriedAgain bool   `json:"tried_again,omitempty"`
	FailedBoot *Trace `json:"failed_boot,omitempty"`
}

// Trace is what the last boot of a deployment that failed has left behind.
type Trace struct {
	BootID string `json:"boot_id,omitempty"` // "" when none of its boots was recorded
	// The last lines of its journal before it was judged, or before it ended.
	Journal   []string `json:"journal,omitempty"`
	NoJournal string   `json:"no_journal,omitempty"` // why there are none
	// The last lines that the kernel saved when it died, and where they are.
	Kernel     []string `json:"kernel,omitempty"`
	KernelFile string   `json:"kernel_file,omitempty"`
	NoKernel   string   `json:"no_kernel,omitempty"` // why there are none
}

// Hooks says that the operator's programs were told of a fallback.
type Hooks struct {
	Fallback time.Time `json:"fallback"` // time of its event
	Results  []Check   `json:"results"`
}

// String tells the fallback to people.
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

// Named names a deployment to people.
func Named(id, version string) string {
	switch {
	case id == "":
		return "an unknown deployment"
	case version == "":
		return id
	}
	return fmt.Sprintf("%s (%s)", id, version)
}

// CheckState is how a check ended.
type CheckState string

const (
	Passed   CheckState = "passed"
	Failed   CheckState = "failed"
	TimedOut CheckState = "timed_out"
)

// Check says how a check ended.
type Check struct {
	Name       string     `json:"name"`
	Source     string     `json:"source"` // path, or "built-in"
	Required   bool       `json:"required"`
	State      CheckState `json:"state"`
	Detail     string     `json:"detail,omitempty"`  // how it failed: "exit status 1"
	Message    string     `json:"message,omitempty"` // the last line that it said about it
	Output     []string   `json:"output,omitempty"`  // its last lines
	DurationMS int64      `json:"duration_ms"`
}

// OK reports whether the check passed.
func (r Check) OK() bool { return r.State == Passed }

// String says what failed, on one line.
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
