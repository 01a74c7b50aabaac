// Package history stores the history of boots: their starts, their verdicts, and the
// fallbacks.
//
// The history is a file of JSON lines that is only appended to, and synced after each
// line; when it becomes too large, the oldest lines are dropped. A power cut can tear
// the last line; readers skip lines that they cannot parse.
package history

import "github.com/kairos-io/toolkit/lib/report/boots"

// Types of the history, which lib/report/boots shares with other programs.
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
