package history

import (
	"slices"
)

// Boots combines events into boots, oldest first. current is the id of the running
// boot: without a verdict it is pending; other boots without one ended before it. A
// soft reboot starts another boot with the same id.
func Boots(events []Event, current string) []Boot {
	type key struct {
		id   string
		soft int
	}
	var boots []Boot
	index := map[key]int{}
	for _, e := range events {
		if e.BootID == "" || e.Kind == KindFallback || e.Kind == KindHooks {
			continue
		}
		k := key{e.BootID, e.SoftReboots}
		i, known := index[k]
		if !known {
			i = len(boots)
			index[k] = i
			boots = append(boots, Boot{BootID: e.BootID, SoftReboots: e.SoftReboots, Started: e.Time, Verdict: Verdict{Outcome: None}})
			if e.BootID == current {
				boots[i].Outcome = Pending
			}
		}
		apply(&boots[i], e)
	}
	return boots
}

func apply(b *Boot, e Event) {
	switch {
	case e.Kind == KindStart && e.Start != nil:
		b.Start = *e.Start
	case e.Kind == KindVerdict && e.Verdict != nil:
		b.Verdict, b.Assessed, b.UptimeMS = *e.Verdict, e.Time, e.UptimeMS
	}
}

// Of returns the boots of one deployment, in their order.
func Of(boots []Boot, deployment string) []Boot {
	var found []Boot
	for _, b := range boots {
		if b.Deployment == deployment {
			found = append(found, b)
		}
	}
	return found
}

// Untold returns the fallbacks for which the operator's programs did not run yet,
// oldest first.
func Untold(events []Event) []Event {
	told := map[int64]bool{}
	for _, e := range events {
		if e.Kind == KindHooks {
			told[e.Hooks.Fallback.UnixNano()] = true
		}
	}
	return slices.DeleteFunc(Fallbacks(events), func(e Event) bool { return told[e.Time.UnixNano()] })
}

// Fallbacks returns the fallbacks, oldest first.
func Fallbacks(events []Event) []Event {
	var found []Event
	for _, e := range events {
		if e.Kind == KindFallback && e.Fallback != nil {
			found = append(found, e)
		}
	}
	return found
}

// Newest returns the newest boots, at most limit unless that is 0, newest first,
// and the fallbacks since the oldest of them.
func Newest(boots []Boot, fallbacks []Event, limit int) ([]Boot, []Event) {
	last, told := []Boot{}, []Event{}
	for _, b := range slices.Backward(boots) {
		if limit == 0 || len(last) < limit {
			last = append(last, b)
		}
	}
	all := len(last) == len(boots)
	for _, f := range slices.Backward(fallbacks) {
		if all || !f.Time.Before(last[len(last)-1].Started) {
			told = append(told, f)
		}
	}
	return last, told
}
