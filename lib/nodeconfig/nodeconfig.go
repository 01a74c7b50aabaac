// Package nodeconfig asks kairos-config what a node's cloud-config says.
package nodeconfig

import (
	"context"
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
)

// Program is what reads the config.
const Program = "kairos-config"

// Get returns the value of a key as JSON: what the node's configs say, and the
// given files after them. It is nil without a value, and without kairos-config.
func Get(ctx context.Context, r run.Runner, files []string, key string) ([]byte, error) {
	if !run.Has(Program) {
		return nil, nil
	}
	argv := []string{Program, "get", "--json"}
	for _, f := range files {
		argv = append(argv, "--config="+f)
	}
	out, err := r.Output(ctx, append(argv, key)...)
	if failed := (*run.Error)(nil); errors.As(err, &failed) && failed.Status == exit.Nothing {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's config: %w", err)
	}
	return out, nil
}
