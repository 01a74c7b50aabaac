package assess

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/config"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
)

// aftermath runs the operator's programs for fallbacks, and greenboot's scripts for the
// verdict. They don't change the verdict: their failures are logged. The error is that
// of ctx.
func (n *Node) aftermath(ctx context.Context, boot history.Boot) error {
	settings := config.Load(n.Root) // what is wrong in it was logged before
	if err := n.runHooks(ctx, settings, boot); err != nil {
		return err
	}
	dir := checks.Green
	if boot.Outcome == history.Bad {
		dir = checks.Red
	}
	list, err := checks.Aftermath(n.Root, dir, settings.TimeoutOf, environment(boot))
	if err != nil {
		n.Log.Error(err.Error())
	}
	_, err = n.runScripts(ctx, list)
	return err
}

// runHooks runs the operator's programs for each new fallback. It records that
// afterwards: after a power cut in between they run again.
//
// It doesn't run when a fallback is detected, since there is no network yet at that
// time.
func (n *Node) runHooks(ctx context.Context, settings config.Config, boot history.Boot) error {
	log, _ := n.history()
	events, err := log.Read()
	if err != nil {
		n.Log.Error(err.Error())
		return nil
	}
	for _, e := range history.Untold(events) {
		event, err := json.Marshal(e)
		if err != nil {
			return err
		}
		list, err := checks.FallbackHooks(n.Root, settings.TimeoutOf, environment(boot), append(event, '\n'))
		if err != nil {
			n.Log.Error(err.Error())
		}
		results, failed := n.runScripts(ctx, list)
		if failed != nil {
			return failed
		}
		told := history.Hooks{Fallback: e.Time, Results: results}
		if err := n.record(history.Event{Kind: history.KindHooks, Hooks: &told}); err != nil {
			n.Log.Error(err.Error())
		}
	}
	return nil
}

// runScripts runs scripts whose failures are only logged. The error is that of ctx.
func (n *Node) runScripts(ctx context.Context, list []checks.Check) (results []checks.Result, err error) {
	for _, c := range list {
		result, err := checks.Run(ctx, c, func(line string) { n.Log.Info(c.Name + ": " + line) })
		if err != nil {
			return results, fmt.Errorf("script %s: %w", c.Name, err)
		}
		if !result.OK() {
			n.Log.Warn(result.String())
		}
		results = append(results, result)
	}
	return results, nil
}
