package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/lib/run"
)

// boots says when a deployment was booted, and with what success, as far as
// the assessment's history goes back.
type boots struct {
	First   time.Time `json:"first"`   // its first boot that is known
	Last    time.Time `json:"last"`    // its last
	Verdict string    `json:"verdict"` // on the last: good, bad, none, pending
	Reason  string    `json:"reason"`  // of a bad verdict, ""
}

// historyWithin bounds how long the history may take to be told.
const historyWithin = 10 * time.Second

// askHistory asks kairos-boot-assess, whose history it is.
func askHistory(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, historyWithin)
	defer cancel()
	return run.Runner{}.Output(ctx, "kairos-boot-assess", "history", "--json", "--number", "0")
}

// history returns the boots of deployments by their id.
func (m machine) history(ctx context.Context) (map[string]boots, error) {
	data, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	var told struct {
		Boots []struct { // newest first
			Started    time.Time `json:"started"`
			Deployment string    `json:"deployment"`
			Verdict    string    `json:"verdict"`
			Reason     string    `json:"reason"`
		} `json:"boots"`
	}
	if err := json.Unmarshal(data, &told); err != nil {
		return nil, fmt.Errorf("read the history of boots: %w", err)
	}
	all := map[string]boots{}
	for _, b := range told.Boots {
		known, again := all[b.Deployment]
		if !again {
			known = boots{Last: b.Started, Verdict: b.Verdict, Reason: b.Reason}
		}
		known.First = b.Started
		all[b.Deployment] = known
	}
	return all, nil
}
