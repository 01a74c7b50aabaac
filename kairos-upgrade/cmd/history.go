package cmd

import (
	"context"
	"time"

	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/report/boots"
	"github.com/kairos-io/toolkit/lib/run"
)

// booted says when a deployment was booted, and with what success, as far as
// the assessment's history goes back.
type booted struct {
	First   time.Time     `json:"first"`   // its first boot that is known
	Last    time.Time     `json:"last"`    // its last
	Verdict boots.Outcome `json:"verdict"` // on the last: good, bad, none, pending
	Reason  string        `json:"reason"`  // of a bad verdict, ""
}

// historyWithin bounds how long the history may take to be told.
const historyWithin = 10 * time.Second

// queryHistory asks kairos-boot-assess, whose history it is.
func queryHistory(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, historyWithin)
	defer cancel()
	return run.Runner{}.Output(ctx, "kairos-boot-assess", "history", "--json", "--number", "0")
}

// history returns the boots of deployments by their id.
func (m machine) history(ctx context.Context) (map[string]booted, error) {
	data, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	told, err := report.Parse[boots.History]("kairos-boot-assess history", data)
	if err != nil {
		return nil, err
	}
	all := map[string]booted{}
	for _, b := range told.Boots { // newest first
		known, again := all[b.Deployment]
		if !again {
			known = booted{Last: b.Started, Verdict: b.Outcome, Reason: b.Reason}
		}
		known.First = b.Started
		all[b.Deployment] = known
	}
	return all, nil
}
