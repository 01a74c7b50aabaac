// Package checks finds and runs health checks: programs of the image and of the site
// whose exit status says whether a boot is good.
package checks

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/kairos-io/toolkit/lib/report/boots"
)

// Check is one health check.
type Check struct {
	Name     string        // file name, or that of a built-in check
	Source   string        // path, or "built-in"
	Required bool          // a failure makes the boot bad; otherwise it causes a warning
	Timeout  time.Duration // after this time the check is killed and has failed
	// Do runs the check; nil means that it passed. It writes its output to the two
	// writers, messages about failures to the second.
	Do func(ctx context.Context, out, problem io.Writer) error
}

// BuiltIn is the source of built-in checks.
const BuiltIn = "built-in"

// State is the result of a check.
type State = boots.CheckState

const Passed, Failed, TimedOut = boots.Passed, boots.Failed, boots.TimedOut

// Result is a check with its result.
type Result = boots.Check

// errTimeout is the cause of a context whose check timed out.
var errTimeout = errors.New("check timed out")

// Run runs one check. say gets each line of its output. The error is that of ctx when
// it ended before the check; then there is no result.
func Run(ctx context.Context, c Check, say func(line string)) (Result, error) {
	limited, cancel := context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
	defer cancel()
	output := newTranscript(say)
	begin := time.Now()
	err := c.Do(limited, output.stdout(), output.stderr())
	output.flush()
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	r := Result{
		Name: c.Name, Source: c.Source, Required: c.Required, State: Passed,
		DurationMS: time.Since(begin).Milliseconds(),
	}
	switch {
	case err == nil:
		return r, nil
	case context.Cause(limited) == errTimeout:
		r.State, r.Detail = TimedOut, "after "+c.Timeout.String()
	default:
		r.State, r.Detail = Failed, err.Error()
	}
	r.Message, r.Output = output.message(), output.lines()
	return r, nil
}
