package report

import (
	"errors"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

// Upgrade is what others read of the object that kairos-upgrade status prints:
// kairos-json(5) has all of it.
type Upgrade struct {
	Booted      string          `json:"booted"`   // id, "" when nothing runs from this store
	Staged      string          `json:"staged"`   // id of what boots next, "" when that is what runs
	Previous    string          `json:"previous"` // id of the newest good one beside these, ""
	Pinned      []string        `json:"pinned"`   // ids
	Mode        deployment.Mode `json:"mode"`     // how the machine was booted, ""
	Deployments []Deployment    `json:"deployments"`
	ESP         Space           `json:"esp"`
}

// Space is a file system.
type Space struct {
	Path string `json:"path"`
	Size int64  `json:"size"` // bytes
	Free int64  `json:"free"` // bytes
}

// State says how far a deployment has come.
type State string

const (
	Good       State = "good"       // booted and found good, or never counted
	Pending    State = "pending"    // tries are left, no verdict yet
	Bad        State = "bad"        // no tries are left
	Incomplete State = "incomplete" // has no boot entry: an interrupted transaction
)

// Deployment is a record and what has become of it.
type Deployment struct {
	deployment.Record
	State       State                  `json:"state"`
	TriesLeft   int                    `json:"tries_left"`
	TriesDone   int                    `json:"tries_done"`
	Booted      bool                   `json:"booted"`
	Quarantined *deployment.Quarantine `json:"quarantined,omitempty"`
}

// Lint is what kairos-upgrade lint prints.
type Lint struct {
	Source   string    `json:"source"`
	Boots    bool      `json:"boots"`
	Findings []Finding `json:"findings"`
}

// Finding is one thing that was found in an image.
type Finding struct {
	Level   Severity `json:"level"`
	Code    string   `json:"code"` // for programs: "no_kernel"
	Path    string   `json:"path,omitempty"`
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
}

func (f Finding) String() string {
	if f.Path == "" {
		return f.Message
	}
	return f.Path + ": " + f.Message
}

// TransactionDir is where kairos-upgrade(8) publishes how far its transactions
// are, one file for each store.
const TransactionDir = Dir + "/upgrade"

// Progress is how far an operation is. Bytes are those of the whole operation:
// of its phases up to now, the current one included.
type Progress struct {
	Phase    string        `json:"phase"`
	Done     int64         `json:"bytes_done"`
	Total    int64         `json:"bytes_total"` // 0 when unknown; grows when another phase begins
	Rate     int64         `json:"rate"`        // bytes per second of late, 0 when unknown
	ETA      time.Duration `json:"-"`           // until Total is done, 0 when unknown
	Reused   int64         `json:"reused"`      // bytes that were here already …
	ReusedOf int64         `json:"reused_of"`   // … of so many, 0 when unknown
	Message  string        `json:"message"`     // last line of the log
}

// Transaction is what is known of a transaction: the content of its file.
type Transaction struct {
	ID        string    `json:"id"`        // a number, as digits
	Operation string    `json:"operation"` // "stage", "gc", …
	Reference string    `json:"reference"` // what it is about, ""
	PID       int       `json:"pid"`       // of the process that does it
	StartedBy Caller    `json:"started_by"`
	Since     time.Time `json:"since"`
	Progress
	ETA       int64  `json:"eta"`       // seconds, 0 when unknown
	Completed bool   `json:"completed"` // what follows is its result
	Status    int    `json:"status"`    // exit status
	Error     string `json:"error"`     // "" when it succeeded
	Hint      string `json:"hint"`      // what a person can do about it, ""
}

// Caller is the process that asked for a transaction.
type Caller struct {
	UID uint32 `json:"uid"`
	PID uint32 `json:"pid"`
}

// Err is the error that a completed transaction ended with, with its exit
// status and hint.
func (t Transaction) Err() error {
	if t.Status == exit.OK {
		return nil
	}
	err := exit.WithCode(errors.New(t.Error), t.Status)
	if t.Hint != "" {
		err = exit.Hint(err, "%s", t.Hint)
	}
	return err
}
