package assess

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Status describes this boot and the boots that led to it.
type Status struct {
	Boot         history.Boot            `json:"boot"`
	EntryState   bls.State               `json:"entry_state,omitempty"` // current state of the booted entry: good, pending or bad; "" when the ESP can't be read
	Persistent   bool                    `json:"persistent"`            // whether the history survives a reboot
	LastFallback *history.Event          `json:"last_fallback,omitempty"`
	Quarantined  []deployment.Quarantine `json:"quarantined"`
	Unreadable   error                   `json:"-"` // says what of all this could not be read
}

// Status returns the state of the assessment. The error is
// deployment.ErrNotBooted where the running system is no deployment.
func (n *Node) Status() (Status, error) {
	booted, err := n.Booted()
	if err != nil {
		return Status{}, err
	}
	s := Status{Quarantined: []deployment.Quarantine{}}
	boot, known := n.state()
	if !known {
		trial := n.counted(booted, 0)
		boot = history.Boot{BootID: n.bootID(), Verdict: history.Verdict{Outcome: history.Pending}}
		boot.Start = startOf(booted, trial)
		if !judged(booted.Mode) {
			boot.Outcome, boot.Reason = history.Unjudged, trial.Uncounted
		}
	}
	s.Boot, s.EntryState = boot, n.EntryState(boot.Entry)
	log, lasting := n.history()
	s.Persistent = lasting
	events, err := log.Read()
	s.Unreadable = err
	if fallbacks := history.Fallbacks(events); len(fallbacks) > 0 {
		s.LastFallback = &fallbacks[len(fallbacks)-1]
	}
	list, err := n.quarantine()
	s.Quarantined, s.Unreadable = append(s.Quarantined, list...), errors.Join(s.Unreadable, err)
	return s, nil
}

func (n *Node) quarantine() ([]deployment.Quarantine, error) {
	store, err := os.OpenRoot(n.path(deployment.StoreMount))
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("read the quarantine: %w", err)
	}
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return deployment.QuarantineList(store)
}

// EntryState returns the state in the current name of an entry, "" when it can't be
// read: only root can read the ESP.
func (n *Node) EntryState(base string) bls.State {
	entries, err := n.entries()
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.Name.Base == base {
			return e.Name.State()
		}
	}
	return ""
}

// History returns all recorded boots and fallbacks, oldest first, and whether they
// survive a reboot.
func (n *Node) History() (boots []history.Boot, fallbacks []history.Event, lasting bool, err error) {
	log, lasting := n.history()
	events, err := log.Read()
	return history.Boots(events, n.bootID()), history.Fallbacks(events), lasting, err
}
