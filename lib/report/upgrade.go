package report

import (
	"errors"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

// Upgrade is the part of the object that kairos-upgrade status prints that other
// programs read. kairos-json(5) documents the whole object.
type Upgrade struct {
	Booted      string          `json:"booted"`   // id, "" when no deployment of this store runs
	Staged      string          `json:"staged"`   // id of the deployment that boots next, "" when it is the running one
	Previous    string          `json:"previous"` // id of the newest good deployment beside these, ""
	Pinned      []string        `json:"pinned"`   // ids
	Mode        deployment.Mode `json:"mode"`     // how the machine was booted, ""
	Deployments []Deployment    `json:"deployments"`
	ESP         Space           `json:"esp"`
}

// Space is the size and the free space of a file system.
type Space struct {
	Path string `json:"path"`
	Size int64  `json:"size"` // bytes
	Free int64  `json:"free"` // bytes
}

// State is the state of a deployment.
type State string

const (
	Good       State = "good"       // booted and found good, or never counted
	Pending    State = "pending"    // tries are left, no verdict yet
	Bad        State = "bad"        // no tries are left
	Incomplete State = "incomplete" // has no boot entry: left by an interrupted transaction
)

// Deployment is a record with the state of the deployment.
type Deployment struct {
	deployment.Record
	State       State                  `json:"state"`
	TriesLeft   int                    `json:"tries_left"`
	TriesDone   int                    `json:"tries_done"`
	Booted      bool                   `json:"booted"`
	Quarantined *deployment.Quarantine `json:"quarantined,omitempty"`
}

// Lint is the object that kairos-upgrade lint prints.
type Lint struct {
	Source   string    `json:"source"`
	Boots    bool      `json:"boots"`
	Findings []Finding `json:"findings"`
}

// Finding is one finding about an image.
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

// TransactionDir is the directory in which kairos-upgrade(8) publishes the progress of
// its transactions, one file for each store.
const TransactionDir = Dir + "/upgrade"

// Progress is the progress of an operation. Bytes are counted over the whole operation:
// its phases so far, including the current one.
type Progress struct {
	Phase    string        `json:"phase"`
	Done     int64         `json:"bytes_done"`
	Total    int64         `json:"bytes_total"` // 0 when unknown; grows when another phase begins
	Rate     int64         `json:"rate"`        // recent bytes per second, 0 when unknown
	ETA      time.Duration `json:"-"`           // time until Total is done, 0 when unknown
	Reused   int64         `json:"reused"`      // bytes that were in the store already …
	ReusedOf int64         `json:"reused_of"`   // … of this total, 0 when unknown
	Message  string        `json:"message"`     // last line of the log
}

// Transaction is the state of a transaction: the content of its file.
type Transaction struct {
	ID        string    `json:"id"`        // a number, as digits
	Operation string    `json:"operation"` // "stage", "gc", …
	Reference string    `json:"reference"` // image or deployment that it works on, ""
	PID       int       `json:"pid"`       // of the process that runs it
	StartedBy Caller    `json:"started_by"`
	Since     time.Time `json:"since"`
	Progress
	ETA       int64  `json:"eta"`       // seconds, 0 when unknown
	Completed bool   `json:"completed"` // the fields below are its result
	Status    int    `json:"status"`    // exit status
	Error     string `json:"error"`     // "" when it succeeded
	Hint      string `json:"hint"`      // what a person can do about the error, ""
}

// Caller is the process that requested a transaction.
type Caller struct {
	UID uint32 `json:"uid"`
	PID uint32 `json:"pid"`
}

// Err returns the error of a completed transaction, with its exit status and hint.
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
