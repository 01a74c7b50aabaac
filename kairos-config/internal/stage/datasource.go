package stage

import (
	"context"
	"errors"
	"fmt"
)

// datasource asks who knows this machine for its user data. What comes is a
// config like any other, from the next stage on.
func (r *run) datasource(ctx context.Context) {
	d := r.step.Spec.Datasource
	if len(d.Providers) == 0 {
		return
	}
	if r.Datasource == nil {
		r.fail(errors.New("datasource: not of a root that is not running"))
		return
	}
	changed, err := r.Datasource(ctx, d)
	if err != nil {
		r.fail(fmt.Errorf("datasource: %w", err))
	}
	r.changed(changed...)
}
