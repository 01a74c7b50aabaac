package staging

import (
	"cmp"
	"context"
	"slices"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/lock"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/run"
)

// Command is kairos-upgrade, executed.
type Command struct {
	Program string // "" for kairos-upgrade in PATH
}

// Deployments asks for the status.
func (c Command) Deployments(ctx context.Context) (Deployments, error) {
	out, err := c.run(ctx, "status", "--json")
	if err != nil {
		return Deployments{}, err
	}
	return report.Parse[Deployments]("kairos-upgrade status", out)
}

// Stage deploys from the store that runs into itself: nothing is fetched and
// nothing copied.
func (c Command) Stage(ctx context.Context, id string, add, remove []string) error {
	args := []string{"stage", "--json", "--origin", "config"}
	for _, a := range add {
		args = append(args, "--karg", a)
	}
	for _, r := range remove {
		args = append(args, "--delete-karg", r)
	}
	return c.change(ctx, append(args, "store:"+deployment.StoreMount+":"+id)...)
}

// Rollback makes a deployment boot next.
func (c Command) Rollback(ctx context.Context, id string) error {
	return c.change(ctx, "rollback", "--json", id)
}

// change runs what takes the lock of the store, and waits for it as the context
// says. Of what kairos-upgrade says meanwhile, for whom it waits is passed on.
func (c Command) change(ctx context.Context, args ...string) error {
	r := run.Runner{Line: func(_, line string) { lock.Heard(ctx, line) }}
	wait := lock.Arguments(ctx)
	if len(wait) == 0 {
		wait = []string{"--quiet"}
	}
	_, err := r.Output(ctx, slices.Concat(c.program(), args[:1], wait, args[1:])...)
	return err
}

func (c Command) program() []string { return []string{cmp.Or(c.Program, "kairos-upgrade")} }

// run passes on the exit status and the hint of kairos-upgrade.
func (c Command) run(ctx context.Context, args ...string) ([]byte, error) {
	return run.Runner{}.Output(ctx, append(c.program(), args...)...)
}
