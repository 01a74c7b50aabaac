package exit

import (
	"errors"
	"strings"

	"github.com/kairos-io/toolkit/lib/kind"
)

// Explanation says how a program ends with errors of a kind.
type Explanation struct {
	Kind   error
	Status int    // 0: that of Code
	Reason string // see Reason; "": that of the status
	Hint   string // see Hint; %s stands for what the error is about
}

// Explanations are those of a program. The first one whose kind an error is of
// holds: special kinds come before general ones.
type Explanations []Explanation

// Explain gives an error its status, reason and hint, but for those that it has
// already.
func (all Explanations) Explain(err error) error {
	if Code(err) == Interrupted {
		return err
	}
	for _, e := range all {
		if !errors.Is(err, e.Kind) {
			continue
		}
		var (
			coded  *codeError
			reason *reasonError
		)
		explained := err
		if e.Status != 0 && !errors.As(err, &coded) {
			explained = WithCode(explained, e.Status)
		}
		if e.Reason != "" && !errors.As(err, &reason) {
			explained = Reason(explained, e.Reason)
		}
		if e.Hint != "" && HintOf(err) == "" {
			explained = Hint(explained, "%s", strings.ReplaceAll(e.Hint, "%s", kind.About(err, e.Kind)))
		}
		return explained
	}
	return err
}
