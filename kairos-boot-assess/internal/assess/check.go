package assess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/config"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/report/boots"
	"github.com/kairos-io/toolkit/lib/sdnotify"
)

// Check runs all health checks and records the verdict on this boot. Recovery and live
// systems get none. A bad verdict is no error: see Boot.Outcome.
func (n *Node) Check(ctx context.Context) (history.Boot, error) {
	started, err := n.Start(ctx)
	if err != nil {
		return history.Boot{}, err
	}
	if started.Unrecorded != nil { // the verdict does not depend on it
		n.Log.Error(started.Unrecorded.Error())
	}
	boot := started.Boot
	if boot.Outcome == history.Unjudged {
		return boot, nil
	}
	before := boot.Outcome
	verdict, err := n.examine(ctx, boot, func(check string) {
		sdnotify.Status("Running check %s", check)
		if _, err := n.update(func(b *history.Boot) { b.Running = check }); err != nil {
			n.Log.Warn(err.Error())
		}
	})
	if err != nil {
		return boot, err
	}
	boot, err = n.update(func(b *history.Boot) {
		if b.Marked { // what a person said stays
			verdict.Outcome, verdict.Reason, verdict.Marked = b.Outcome, b.Reason, true
		}
		if b.Running = ""; b.Outcome == history.Bad && before == history.Pending {
			// Meanwhile it was found to take too long: that stays.
			verdict.Outcome, verdict.Reason = b.Outcome, b.Reason
		}
		b.Verdict, b.Assessed, b.UptimeMS = verdict, n.Now().UTC(), n.Uptime().Milliseconds()
	})
	err = errors.Join(err, n.record(history.Event{Kind: history.KindVerdict, Verdict: &verdict}))
	if err != nil {
		n.Log.Error(err.Error())
	}
	sdnotify.Status("This boot is %s", boot.Outcome)
	n.writeJournal(verdictEntry(boot))
	if err := n.SignalVerdict(ctx); err != nil {
		n.Log.Warn(err.Error())
	}
	return boot, n.aftermath(ctx, boot)
}

// Rehearse runs all health checks and returns this boot with the verdict that they
// would give. It records nothing.
func (n *Node) Rehearse(ctx context.Context) (history.Boot, error) {
	status, err := n.Status()
	if errors.Is(err, deployment.ErrNotBooted) {
		return history.Boot{}, err
	}
	boot := status.Boot
	boot.Verdict, err = n.examine(ctx, boot, func(string) {})
	boot.Assessed, boot.UptimeMS, boot.Running = n.Now().UTC(), n.Uptime().Milliseconds(), ""
	return boot, err
}

// examine runs all health checks and returns their results. It calls begins before each
// check.
func (n *Node) examine(ctx context.Context, boot history.Boot, begins func(check string)) (history.Verdict, error) {
	list, err := n.checks(boot)
	if err != nil {
		return history.Verdict{}, fmt.Errorf("list health checks: %w", err)
	}
	begin := time.Now()
	verdict := history.Verdict{Outcome: history.Good}
	for _, c := range list {
		begins(c.Name)
		result, err := checks.Run(ctx, c, func(line string) { n.Log.Info(c.Name + ": " + line) })
		if err != nil {
			return verdict, fmt.Errorf("check %s: %w", c.Name, err)
		}
		if !result.OK() {
			n.Log.Warn(result.String())
		}
		verdict.Checks = append(verdict.Checks, result)
	}
	verdict.DurationMS = time.Since(begin).Milliseconds()
	if verdict.Reason = failure(verdict.Checks); verdict.Reason != "" {
		verdict.Outcome = history.Bad
	}
	return verdict, nil
}

// checks returns the checks in order: the built-in ones, then the installed ones.
func (n *Node) checks(boot history.Boot) ([]checks.Check, error) {
	settings := config.Load(n.Root)
	if settings.Wrong != nil {
		n.Log.Error(settings.Wrong.Error())
	}
	var list []checks.Check
	add := func(name string, s config.Severity, do func(context.Context, io.Writer, io.Writer) error) {
		if s != config.Off {
			list = append(list, checks.Check{
				Name: name, Source: checks.BuiltIn, Required: s == config.Required,
				Timeout: settings.TimeoutOf(name), Do: do,
			})
		}
	}
	add(checks.WritablePathsName, settings.Writable, checks.WritablePaths(n.Root))
	add(checks.UnlockName, settings.Unlock, checks.Unlock(n.Root))
	add(checks.ConfigName, settings.ConfigStages, checks.ConfigStages(n.Root))
	add(checks.FailedUnitsName, settings.FailedUnits, checks.FailedUnits(n.dialChecks, settings.Ignore))
	found, err := checks.Find(n.Root, settings.TimeoutOf, environment(boot))
	return append(list, found...), err
}

func (n *Node) dialChecks(ctx context.Context) (checks.ServiceManager, func(), error) {
	conn, err := n.Dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { conn.Close() }, nil
}

// environment is the complete environment of checks.
func environment(b history.Boot) []string {
	counted := "0"
	if b.Trial.Counted {
		counted = "1"
	}
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8",
		"KAIROS_MODE=" + string(b.Mode),
		"KAIROS_DEPLOYMENT=" + b.Deployment,
		"KAIROS_VERSION=" + b.Version,
		"KAIROS_REFERENCE=" + b.Reference,
		"KAIROS_IMAGE_DIGEST=" + b.ImageDigest,
		"KAIROS_COUNTED=" + counted,
		"KAIROS_TRIES_LEFT=" + strconv.Itoa(b.Trial.TriesLeft),
	}
}

// verdictEntry returns the journal entry of a verdict.
func verdictEntry(b history.Boot) journal.Entry {
	e := journal.Entry{
		Message:   fmt.Sprintf("This boot of %s is good", boots.Named(b.Deployment, b.Version)),
		MessageID: journal.BootGood,
		Priority:  6,
		Fields: map[string]string{
			"KAIROS_DEPLOYMENT": b.Deployment,
			"KAIROS_VERSION":    b.Version,
			"KAIROS_VERDICT":    string(b.Outcome),
			"KAIROS_TRIES_LEFT": strconv.Itoa(b.Trial.TriesLeft),
		},
	}
	if b.Outcome == history.Bad {
		e.Message = fmt.Sprintf("This boot of %s is bad: %s", boots.Named(b.Deployment, b.Version), b.Reason)
		e.MessageID, e.Priority = journal.BootBad, 3
		e.Fields["KAIROS_REASON"] = b.Reason
	}
	return e
}
