// Package history remembers boots: when they started, what was decided about
// them, and which deployments the machine fell back from.
//
// It is a file of JSON lines that only grows, is synced line by line and keeps
// its size by dropping the oldest. A power cut can tear the last line; readers
// pass over what they cannot parse.
package history

import "github.com/kairos-io/toolkit/lib/report/boots"

// What is remembered, and printed.
type (
	Kind     = boots.Kind
	Event    = boots.Event
	Boot     = boots.Boot
	Start    = boots.Start
	Trial    = boots.Trial
	Outcome  = boots.Outcome
	Verdict  = boots.Verdict
	Fallback = boots.Fallback
	Trace    = boots.Trace
	Hooks    = boots.Hooks
)

const (
	KindStart, KindVerdict, KindFallback, KindHooks = boots.KindStart, boots.KindVerdict, boots.KindFallback, boots.KindHooks

	Good, Bad, None, Pending, Unjudged = boots.Good, boots.Bad, boots.None, boots.Pending, boots.Unjudged
)
