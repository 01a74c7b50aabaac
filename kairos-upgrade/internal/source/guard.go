package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// stallAfter is how long nothing may come over a connection before it counts
// as broken. A variable for tests.
var stallAfter = time.Minute

// An answer may take longer: containers/image obeys up to five Retry-After of
// at most a minute each meanwhile.
const answerFactor = 6

// errStalled says that a peer is silent.
var errStalled = errors.New("no data for a while")

// guard cancels a context when a transfer stalls: neither TCP nor HTTP notice
// a peer that is silent.
type guard struct {
	cancel context.CancelCauseFunc
	ctx    context.Context
	timer  *time.Timer
	after  time.Duration
}

func (img *Image) guard(ctx context.Context) (context.Context, *guard) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guard{cancel: cancel, ctx: ctx, after: stallAfter}
	g.timer = time.AfterFunc(g.after, func() {
		cancel(fmt.Errorf("%w for %s", errStalled, g.after))
	})
	g.timer.Stop()
	return ctx, g
}

// open guards what waits for an answer.
func (g *guard) open(f func() error) error {
	g.timer.Reset(g.after * answerFactor)
	defer g.timer.Stop()
	return g.cause(f())
}

// cause returns the stall behind an error, if there is one.
func (g *guard) cause(err error) error {
	if cause := context.Cause(g.ctx); err != nil && err != io.EOF && errors.Is(cause, errStalled) {
		return cause
	}
	return err
}

// reader guards every Read of r; what happens between them takes its time.
func (g *guard) reader(r io.Reader) io.Reader { return guardedReader{g, r} }

func (g *guard) stop() {
	g.timer.Stop()
	g.cancel(nil)
}

type guardedReader struct {
	guard *guard
	r     io.Reader
}

func (r guardedReader) Read(p []byte) (int, error) {
	r.guard.timer.Reset(r.guard.after)
	n, err := r.r.Read(p)
	r.guard.timer.Stop()
	return n, r.guard.cause(err)
}

// counter counts what is read.
type counter struct {
	r     io.Reader
	total *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.total.Add(int64(n))
	return n, err
}
