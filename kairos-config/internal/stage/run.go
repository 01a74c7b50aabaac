package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"golang.org/x/sys/unix"
)

// System is the system that steps change.
type System struct {
	Root *rootfs.Root
	// Node says that the root is this machine's, running or about to: the kernel's host
	// name is set too.
	Node bool
	// Booted says that the service manager runs from the root: units are enabled
	// through it and can be started.
	Booted bool
	// Strict treats every config as strict.
	Strict  bool
	Timeout time.Duration // of each command
	Env     []string      // NAME=VALUE for commands, in addition to the unit's environment
	Log     *slog.Logger
	// StepLog returns the logger of a step, nil for Log.
	StepLog func(Step) *slog.Logger
	Get     Getter
	// KeyServers replaces addresses of the package's KeyServers.
	KeyServers map[string]string
	// Discarded tells, after the last step, what of it goes away with the root. May be
	// nil.
	Discarded func() []string
	// MetadataServers replaces addresses of metadata services, by provider.
	MetadataServers map[string]string
}

// Run applies a plan. It writes the record beneath the root before and after each step,
// so that a step that hangs or is killed can be identified. A failing step does not
// stop the others, except those after it in a strict config.
func (s *System) Run(ctx context.Context, plan *Plan) *Record {
	s = s.discreet()
	started := time.Now()
	record := &Record{Stage: plan.Stage, Outcome: Running, Started: started.UTC().Truncate(time.Millisecond),
		Steps: []StepRecord{}, Problems: ProblemRecords(plan.Problems)}
	s.report(plan.Problems)
	failed := plan.Problems.Failed()
	record.HardFailed = failed && (s.Strict || plan.Damaged)
	broken := map[string]bool{} // strict configs with a failed step
	for i, step := range plan.Steps {
		if ctx.Err() != nil {
			failed = true
			break
		}
		if broken[step.Source] {
			record.Steps = append(record.Steps, notRun(step))
			continue
		}
		record.Steps = append(record.Steps, newStepRecord(step))
		s.save(record)
		sdnotify.Status("%s: step %d of %d: %s", plan.Stage, i+1, len(plan.Steps), mask.Text(step.Name))
		result := s.runStep(ctx, step)
		record.Steps[i] = result
		record.DurationMS = time.Since(started).Milliseconds()
		if result.Outcome == Failed {
			failed = true
			if step.Strict || s.Strict {
				record.HardFailed, broken[step.Source] = true, true
			}
		}
	}
	if s.Discarded != nil {
		if lost := thrownAway(plan.Stage, s.Discarded()); lost != nil {
			s.report(lost)
			record.Problems = append(record.Problems, ProblemRecords(lost)...)
		}
	}
	record.Outcome = Done
	if failed {
		record.Outcome = Failed
	}
	s.save(record)
	sdnotify.Status("%s: %s", plan.Stage, record.Outcome)
	public := masked(record)
	return &public
}

// maxNamed is how many files are named that are thrown away.
const maxNamed = 5

// thrownAway says which files a stage of another system has written in vain.
func thrownAway(stage string, files []string) diag.List {
	if len(files) == 0 {
		return nil
	}
	text := strings.Join(files[:min(len(files), maxNamed)], ", ")
	if more := len(files) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return diag.List{diag.Warnf(diag.Pos{Source: "the stage " + stage}, "thrown away, since an image is what its digest says: %s", text).
		WithHint("put them into the image, or write them in initramfs or boot, at each boot; what is beneath /oem stays, and beneath /usr/local after an upgrade")}
}

// discreet returns the system with logs that hide secrets: commands and other
// programs print what they like.
func (s *System) discreet() *System {
	own := *s
	own.Log = mask.Logger(s.Log)
	if s.StepLog != nil {
		own.StepLog = func(step Step) *slog.Logger { return mask.Logger(s.StepLog(step)) }
	}
	return &own
}

func (s *System) save(record *Record) {
	if err := save(record, s.Root); err != nil {
		s.Log.Error(err.Error())
	}
}

func notRun(step Step) StepRecord {
	r := newStepRecord(step)
	r.Outcome, r.Reason = Skipped, "an earlier step of this strict config failed"
	return r
}

func newStepRecord(step Step) StepRecord {
	return StepRecord{Stage: step.Part, Name: step.Name, File: step.Source, Line: step.Spec.Pos.Line, Outcome: Running,
		Assessed: step.Assessed,
		Changed:  []string{}, Errors: []string{}, Problems: ProblemRecords(step.Problems)}
}

// report writes problems to the log.
func (s *System) report(problems diag.List) {
	for _, p := range problems {
		s.Log.Log(context.Background(), p.Level(), p.Text())
	}
}

// run is a step on its way.
type run struct {
	*System
	step   Step
	record StepRecord
	failed bool

	ownersLater []schema.File // whose owners this step makes
}

// runStep applies one step. What can't be used of it is left out and makes the
// step a failed one.
func (s *System) runStep(ctx context.Context, step Step) StepRecord {
	started := time.Now()
	if s.StepLog != nil {
		own := *s
		own.Log = s.StepLog(step)
		s = &own
	}
	r := &run{System: s, step: step, record: newStepRecord(step)}
	s.report(step.Problems)
	r.failed = step.Problems.Failed() // which have been told
	if step.Spec.Unclear {
		r.fail(errors.New("not run: its conditions are not valid"))
	} else if r.wanted(ctx) {
		for _, e := range effects {
			e.apply(r, ctx)
		}
	}
	r.record.DurationMS = time.Since(started).Milliseconds()
	switch {
	case r.failed:
		r.record.Outcome = Failed
	case r.record.Outcome == Running:
		r.record.Outcome = Done
	}
	s.Log.Debug(step.Name + ": " + string(r.record.Outcome))
	return r.record
}

// fail notes an error of the step. Errors name what failed, never a secret:
// they are kept where everybody can read them.
func (r *run) fail(err error) {
	if err == nil {
		return
	}
	r.failed = true
	text := r.step.Secrets.Hide(err.Error())
	if errors.Is(err, unix.EROFS) && (r.step.Part == "rootfs" || strings.HasPrefix(r.step.Part, "rootfs.")) {
		text += " (the root is not writable before the stage initramfs, only /run is)"
	}
	r.record.Errors = append(r.record.Errors, text)
	r.Log.Error(fmt.Sprintf("%s: %s: %s", r.step.Spec.Pos.FileLine(), r.step.Name, text))
}

// changed notes what the step changed.
func (r *run) changed(what ...string) {
	r.record.Changed = append(r.record.Changed, what...)
}
