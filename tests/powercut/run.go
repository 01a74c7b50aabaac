// Package powercut cuts the power of nodes in the middle of operations, thousands of times, and judges what
// is left each time: see its parts writelog, disk and judge for how, and record for the operations.
package powercut

import (
	"context"
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/tests/powercut/disk"
	"github.com/kairos-io/toolkit/tests/powercut/judge"
	"github.com/kairos-io/toolkit/tests/powercut/record"
	"github.com/kairos-io/toolkit/tests/powercut/writelog"
)

// Result is what came of the cuts in one operation.
type Result struct {
	Operation string
	Writes    int // entries of the log
	Flushes   int
	Cuts      []Judged
}

// Judged is a cut with its verdict.
type Judged struct {
	writelog.Cut
	judge.Verdict
	Again bool // the operation was done once more, on this host
}

// Count returns how many cuts left the node in a state.
func (r Result) Count(state judge.State) (n int) {
	for _, c := range r.Cuts {
		if c.State == state {
			n++
		}
	}
	return n
}

// Again returns after how many cuts the operation was done again on this host.
func (r Result) Again() (n int) {
	for _, c := range r.Cuts {
		if c.Again {
			n++
		}
	}
	return n
}

// Options say how an operation is cut.
type Options struct {
	Cuts int
	Seed uint64
	// Again is how many of the cuts the operation is done again after, on this host; of operations that
	// it can do.
	Again int
	// Change, if set, changes the log first: a test makes writes come too early.
	Change func(*writelog.Log)
	Report func(Judged) // called for each cut
}

// Run cuts an operation of a recording and judges each cut.
func Run(ctx context.Context, r *record.Recording, o record.Operation, options Options) (result *Result, err error) {
	err = withDisk(ctx, r, options.Change, func(c *cutter) error {
		if c.repeater, err = newRepeater(c.disk, c.dir, r.Images); err != nil {
			return err
		}
		result, err = c.run(ctx, o, options)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cut %s: %w", o.Name, err)
	}
	return result, nil
}

// withDisk calls do with the disk that a recording began with, and its log.
func withDisk(ctx context.Context, r *record.Recording, change func(*writelog.Log), do func(*cutter) error) error {
	dir, err := os.MkdirTemp("/tmp", "kairos-powercut-") // where programs of the tools root find it
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := writelog.Open(r.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	if change != nil {
		change(log)
	}
	d, err := disk.Open(ctx, dir, r.Disk, r.After, log)
	if err != nil {
		return err
	}
	defer d.Close()
	return do(&cutter{dir: dir, disk: d, judge: judge.For(d, dir), log: log})
}

type cutter struct {
	dir   string
	disk  *disk.Disk
	judge *judge.Judge
	log   *writelog.Log

	repeater *repeater
}

func (c *cutter) run(ctx context.Context, o record.Operation, options Options) (*Result, error) {
	result := &Result{Operation: o.Name}
	for i := o.Begin; i < o.End; i++ {
		if c.log.Entry(i).Is(writelog.Flush) {
			result.Flushes++
		} else {
			result.Writes++
		}
	}
	begin, end, err := c.bounds(ctx, o)
	if err != nil {
		return nil, err
	}
	operation := judge.Operation{Begin: begin, End: end, Erases: o.Erases, Passing: o.Passing}
	if v := operation.Judge(begin, false); v.State != judge.Old {
		return nil, fmt.Errorf("before the operation the node is %s: %q", v.State, v.Why)
	}
	if v := operation.Judge(end, true); v.State != judge.New {
		return nil, fmt.Errorf("after the operation the node is %s: %q", v.State, v.Why)
	}
	cuts := c.log.Cuts(o.Begin, o.End, options.Cuts, options.Seed)
	for i, cut := range cuts {
		judged := Judged{Cut: cut}
		// As many as are wanted, evenly.
		judged.Again = len(o.Host) > 0 && (i+1)*options.Again/len(cuts) > i*options.Again/len(cuts)
		if err := c.judged(ctx, o, operation, &judged); err != nil {
			return nil, fmt.Errorf("%s: %w", cut, err)
		}
		result.Cuts = append(result.Cuts, judged)
		if options.Report != nil {
			options.Report(judged)
		}
	}
	return result, nil
}

// bounds looks at the disk before and after an operation. All that the operation writes is undone again.
func (c *cutter) bounds(ctx context.Context, o record.Operation) (begin, end *judge.Snapshot, err error) {
	if begin, err = c.look(ctx, writelog.Cut{Durable: o.Begin, At: o.Begin}); err != nil {
		return nil, nil, err
	}
	end, err = c.look(ctx, c.log.All(o.Begin, o.End))
	return begin, end, err
}

// judged judges a cut and, if asked, what comes of doing the operation again.
func (c *cutter) judged(ctx context.Context, o record.Operation, operation judge.Operation, j *Judged) error {
	if err := c.disk.Cut(j.Cut); err != nil {
		return err
	}
	snapshot, err := c.judge.Look(ctx)
	if err != nil {
		return err
	}
	j.Verdict = operation.Judge(snapshot, j.Durable >= o.Done)
	if j.Again = j.Again && j.State != judge.Bad; j.Again {
		problem, err := c.repeater.again(ctx, o, wanted(o, operation))
		if err != nil {
			return fmt.Errorf("do it again: %w", err)
		}
		if problem != "" {
			j.Verdict = judge.Verdict{State: judge.Bad, Why: []string{problem}}
		}
	}
	return c.disk.Restore()
}

// wanted is the image that boots when a staging was done again. A rollback that was done already goes on to
// another one.
func wanted(o record.Operation, operation judge.Operation) string {
	if o.Host[0] != "stage" {
		return ""
	}
	return imageOf(operation.End.ESP.Entries[0])
}

func (c *cutter) look(ctx context.Context, cut writelog.Cut) (*judge.Snapshot, error) {
	if err := c.disk.Cut(cut); err != nil {
		return nil, err
	}
	snapshot, err := c.judge.Look(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cut, err)
	}
	return snapshot, c.disk.Restore()
}
