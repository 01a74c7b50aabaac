package vm

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// EventKind says what an Event is.
type EventKind string

// What may happen to a machine.
const (
	Started  EventKind = "started"   // QEMU runs, the firmware begins
	Reset    EventKind = "reset"     // the guest rebooted
	PowerOff EventKind = "power-off" // the guest powered off
	AgentUp  EventKind = "agent-up"  // commands can be run
	AgentBye EventKind = "agent-bye" // the guest is shutting down
	Stuck    EventKind = "stuck"     // the console shows that nothing more will happen by itself
	Moved    EventKind = "moved"     // the state was saved or taken up, or could not be
	Exited   EventKind = "exited"    // QEMU has ended
)

// Event is something that happened to a machine.
type Event struct {
	At   time.Time
	Kind EventKind
}

// state is what is known of a running machine. Every change wakes those who wait.
type state struct {
	mu      sync.Mutex
	changed chan struct{}
	boots   int    // how often the firmware began
	session string // the agent's; empty while none is there
	stuck   string // what the console says about it; empty while the machine runs
	exited  bool
	// migration is what QEMU says of a state that is being saved or taken up.
	migration string
	traffic   map[string]IO // of the disks, once the machine is off
	observe   func(Event)
}

func newState(observe func(Event)) *state {
	return &state{changed: make(chan struct{}), observe: observe}
}

// happened records an event; update changes the rest of the state with it.
func (s *state) happened(kind EventKind, update func()) {
	s.mu.Lock()
	event := Event{At: time.Now(), Kind: kind}
	if update != nil {
		update()
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if s.observe != nil {
		s.observe(event)
	}
}

// wait returns when done, called with the state locked, returns true or an error.
func (s *state) wait(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		s.mu.Lock()
		ok, err := done()
		changed := s.changed
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
}
