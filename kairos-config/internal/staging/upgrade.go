package staging

import (
	"cmp"
	"context"

	"github.com/kairos-io/toolkit/lib/deployment"
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
	args := []string{"stage", "--json", "--quiet", "--origin", "config"}
	for _, a := range add {
		args = append(args, "--karg", a)
	}
	for _, r := range remove {
		args = append(args, "--delete-karg", r)
	}
	_, err := c.run(ctx, append(args, "store:"+deployment.StoreMount+":"+id)...)
	return err
}

// Rollback makes a deployment boot next.
func (c Command) Rollback(ctx context.Context, id string) error {
	_, err := c.run(ctx, "rollback", "--json", "--quiet", id)
	return err
}

// run passes on the exit status and the hint of kairos-upgrade.
func (c Command) run(ctx context.Context, args ...string) ([]byte, error) {
	return run.Runner{}.Output(ctx, append([]string{cmp.Or(c.Program, "kairos-upgrade")}, args...)...)
}
