// Package transaction lets other processes see what changes a store, and how
// far it is. Whoever holds the lock of a store keeps a small file in
// /run/kairos/upgrade up to date; the command line, kairos-upgrade@.service
// and the service on the bus all do, and all show it.
//
// The file stays when the transaction is over, with its result, so that who
// follows it learns how it ended; the next one replaces it. One that says that
// it runs while nobody holds the lock is left over from a process that was
// killed.
package transaction

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/mask"
	"github.com/kairos-io/toolkit/lib/report"
)

// State is what is known of a transaction.
type State = report.Transaction

// Caller is the process that asked for a transaction.
type Caller = report.Caller

// New describes the transaction of the process that holds a lock.
func New(h store.Holder, by Caller) State {
	return State{
		ID:        h.ID(),
		Operation: h.Command,
		Reference: h.Reference,
		PID:       h.PID,
		StartedBy: by,
		Since:     h.Since.UTC().Truncate(time.Millisecond),
	}
}

// Board is where the transactions of one store are published.
type Board struct {
	Dir  string
	Name string // of the store: store.Store.Key
}

func (b Board) file() string { return b.Name + ".json" }

// ErrNone says that no transaction was published.
var ErrNone = errors.New("no transaction")

// Read returns the last transaction that was published.
func (b Board) Read() (s State, err error) {
	if b.Name == "" {
		return s, ErrNone
	}
	s, err = report.Read[State](b.Dir, b.file())
	if errors.Is(err, fs.ErrNotExist) {
		return s, ErrNone
	}
	if err != nil {
		return s, err
	}
	return checked(s)
}

// checked refuses what nobody can have published.
func checked(s State) (State, error) {
	if n, err := strconv.ParseUint(s.ID, 10, 63); err != nil || s.ID != strconv.FormatUint(n, 10) {
		return State{}, fmt.Errorf("read transaction: id %.32q is not a number", s.ID)
	}
	for _, n := range []int64{s.Done, s.Total, s.Rate, s.ETA, s.Reused, s.ReusedOf, int64(s.PID), int64(s.Status)} {
		if n < 0 || n > maxNumber {
			return State{}, fmt.Errorf("read transaction: %d is out of range", n)
		}
	}
	s.Progress.ETA = time.Duration(min(s.ETA, int64(maxETA/time.Second))) * time.Second
	return s, nil
}

// maxNumber leaves room to calculate with: 64 PiB.
const maxNumber = 1 << 56

// maxETA is the longest time that is told apart from never.
const maxETA = 1000 * time.Hour

// Running returns the transaction that holds the lock of a store, as far as it
// has said what it does; nil when nobody holds it. Both its beginning and its
// end change the lock's file.
func (b Board) Running(s *store.Store) *State {
	h := s.Busy()
	if h == nil || h.PID == 0 { // it begins or ends at this moment
		return nil
	}
	state, err := b.Read()
	if err != nil || state.PID != h.PID || state.ID != h.ID() {
		state = New(*h, Caller{})
	}
	return &state
}

// Publication is a transaction of this process.
type Publication struct {
	board   Board
	mu      sync.Mutex
	state   State
	onState func(State)
	quiet   bool // it cannot be published
}

// Publish begins to publish a transaction. onState, if not nil, is called with
// each state. Where it cannot be published, it is not: a transaction does not
// depend on who watches.
func (b Board) Publish(s State, onState func(State)) *Publication {
	p := &Publication{board: b, state: s, onState: onState}
	if b.Name == "" || os.MkdirAll(b.Dir, 0o755) != nil {
		p.quiet = true
	}
	p.change(func(*State) {})
	return p
}

// Observe publishes how far it is: for progress.Reporter.Observe.
func (p *Publication) Observe(s progress.Snapshot) {
	p.change(func(state *State) {
		state.Progress = s
		state.ETA = int64(min(s.ETA, maxETA) / time.Second)
	})
}

// Finish publishes how it ended: with an error, its exit status and its hint.
func (p *Publication) Finish(err error, status int, hint string) {
	p.change(func(s *State) {
		s.Completed, s.Status, s.ETA, s.Rate = true, status, 0, 0
		if err != nil {
			s.Error, s.Hint = mask.Message(err.Error()), mask.Message(hint)
		}
	})
}

// State is what was published last.
func (p *Publication) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *Publication) change(f func(*State)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.state)
	p.write()
	if p.onState != nil {
		p.onState(p.state)
	}
}

func (p *Publication) write() {
	if p.quiet {
		return
	}
	root, err := os.OpenRoot(p.board.Dir)
	if err == nil {
		defer root.Close()
		err = atomicfile.WriteJSON(root, p.board.file(), p.state, 0o644)
	}
	p.quiet = err != nil
}
