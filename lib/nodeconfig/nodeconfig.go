// Package nodeconfig gets values of a node's cloud-config from kairos-config.
package nodeconfig

import (
	"context"
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
)

// Program is the program that reads the config.
const Program = "kairos-config"

// Get returns the value of a key as JSON, from the node's configs and the given files,
// of which later ones take precedence. It returns nil where the key is not set, and
// where kairos-config is not installed.
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
