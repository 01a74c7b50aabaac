package exit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kind"
)

// TestExplain: the first kind that fits gives what an error lacks.
func TestExplain(t *testing.T) {
	nothing := errors.New("nothing to do")
	upToDate := fmt.Errorf("%w", nothing)
	pinned := errors.New("pinned")
	all := exit.Explanations{
		{upToDate, exit.Nothing, "up_to_date", ""},
		{nothing, exit.Nothing, "", ""},
		{pinned, exit.Refused, "", "unpin %s, and remove %s"},
	}
	about := &kind.Error{Kind: pinned, About: "2-222222222222", Err: errors.New("it stays")}
	for _, c := range []struct {
		err          error
		status       int
		reason, hint string
	}{
		{nil, exit.OK, "failed", ""},
		{errors.New("other"), exit.Failed, "failed", ""},
		{fmt.Errorf("%w: 1 boots next", upToDate), exit.Nothing, "up_to_date", ""},
		{kind.Errorf(upToDate, "1 boots next"), exit.Nothing, "up_to_date", ""},
		{nothing, exit.Nothing, "nothing_to_do", ""},
		{fmt.Errorf("remove: %w", about), exit.Refused, "refused", "unpin 2-222222222222, and remove 2-222222222222"},
		{exit.Hint(exit.WithCode(about, exit.Busy), "wait"), exit.Busy, "busy", "wait"},
		{exit.WithCode(errors.Join(about, context.Canceled), exit.Interrupted), exit.Interrupted, "interrupted", ""},
	} {
		got := all.Explain(all.Explain(c.err))
		if exit.Code(got) != c.status || exit.HintOf(got) != c.hint || c.err != nil && exit.ReasonOf(got) != c.reason {
			t.Errorf("%v: status %d, reason %s, hint %q", c.err, exit.Code(got), exit.ReasonOf(got), exit.HintOf(got))
		}
		if c.err != nil && got.Error() != c.err.Error() {
			t.Errorf("%v became %v", c.err, got)
		}
	}
}
