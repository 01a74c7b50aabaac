package assess

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
)

// whyBad returns why a deployment that used this number of tries is bad, from its boots
// in the history, and whether any of them got a verdict.
func whyBad(boots []history.Boot, tries int) (reason string, judged bool) {
	if last := len(boots) - 1; last >= 0 && boots[last].Marked && boots[last].Outcome == history.Bad {
		return boots[last].Reason, true // not a matter of tries
	}
	// What a soft-reboot started was no try.
	boots = slices.DeleteFunc(slices.Clone(boots), func(b history.Boot) bool { return b.SoftReboots > 0 })
	var same, none, good int
	for _, b := range boots {
		switch {
		case b.Outcome == history.Good:
			good++
		case b.Outcome != history.Bad:
			none++
		case b.Reason == reason:
			same++
		default: // the last word counts
			reason, same = b.Reason, 1
		}
	}
	unseen := max(0, tries-len(boots))
	switch {
	case reason != "" && tries > 0:
		reason = fmt.Sprintf("%s (%d of %s)", reason, same, plural(max(tries, len(boots)), "try", "tries"))
	case good > 0 && none+unseen == 0:
		return "its boots were good, but the boot entry could not be blessed", true
	case reason == "":
		return "no verdict: " + ends(none, unseen), false
	}
	if none+unseen > 0 {
		reason += "; no verdict: " + ends(none, unseen)
	}
	return reason, true
}

// ends describes the ends of boots without a verdict: none were recorded and ended
// before the verdict, unseen ended before they were recorded.
func ends(none, unseen int) string {
	var parts []string
	if none > 0 {
		parts = append(parts, plural(none, "boot", "boots")+" ended before assessment")
	}
	if unseen > 0 {
		parts = append(parts, plural(unseen, "boot", "boots")+" ended before "+one(unseen, "it", "they")+" could be recorded")
	}
	if len(parts) == 0 {
		return "nothing was recorded"
	}
	return strings.Join(parts, ", ")
}

func plural(n int, singular, many string) string {
	return fmt.Sprintf("%d %s", n, one(n, singular, many))
}

func one(n int, singular, many string) string {
	if n == 1 {
		return singular
	}
	return many
}

// failure names the failed required checks; "" when none failed.
func failure(results []checks.Result) string {
	var failed []checks.Result
	for _, r := range results {
		if r.Required && !r.OK() {
			failed = append(failed, r)
		}
	}
	if len(failed) == 0 {
		return ""
	}
	s := failed[0].String()
	if len(failed) > 1 {
		var others []string
		for _, r := range failed[1:] {
			others = append(others, r.Name)
		}
		s += "; also failed: " + strings.Join(others, ", ")
	}
	return s
}
