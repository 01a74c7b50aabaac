package staging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Command is kairos-upgrade, executed.
type Command struct {
	Program string // "" for kairos-upgrade in PATH
}

// Deployments asks for the status.
func (c Command) Deployments(ctx context.Context) (Deployments, error) {
	var s Deployments
	out, err := c.run(ctx, "status", "--json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("kairos-upgrade status: %w", err)
	}
	return s, nil
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
	program := c.Program
	if program == "" {
		program = "kairos-upgrade"
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil, fmt.Errorf("kairos-upgrade %s: %w", args[0], err)
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	last := lines[len(lines)-1]
	var told cmdline.ExitError
	if json.Unmarshal([]byte(last), &told) != nil || told.Message == "" {
		told.Message = last
	}
	err = cmdline.WithCode(fmt.Errorf("kairos-upgrade %s: %s", args[0], told.Message), exit.ExitCode())
	if told.Hint != "" {
		err = cmdline.Hint(err, "%s", told.Hint)
	}
	return nil, err
}
