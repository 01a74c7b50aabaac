package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
)

// request is one run of kairos-config.
type request struct {
	args    []string
	configs map[string]string // contents by name, which become its arguments
	remove  []string
	outside bool // in a unit of its own
}

func newRequest(command string, configs map[string]string) request {
	return request{args: []string{command, "--json", "--quiet"}, configs: configs}
}

// decode reads the options of a method, and checks all that becomes a name of
// a config.
func (r *request) decode(given map[string]dbus.Variant, known bus.Options) error {
	if err := known.Decode(given); err != nil {
		return err
	}
	for _, name := range r.remove {
		if err := generation.CheckName(name); err != nil {
			return exit.WithCode(err, exit.Usage)
		}
	}
	return checkConfigs(r.configs)
}

// Limits of what a caller may pass, so that the configs of all callers fit into
// memory.
const (
	maxConfigs = 64
	maxTotal   = 4 << 20 // bytes
	maxBody    = maxTotal + 1<<20
)

// checkConfigs refuses what can't be configs by names and sizes. Whether they
// are any is for kairos-config to say.
func checkConfigs(configs map[string]string) error {
	if len(configs) > maxConfigs {
		return exit.Usagef("%d configs, more than %d", len(configs), maxConfigs)
	}
	total := 0
	for name, content := range configs {
		if len(name) > 255 {
			return exit.Usagef("a name of %d bytes can't be that of a config", len(name))
		}
		if err := generation.CheckName(name); err != nil {
			return exit.WithCode(err, exit.Usage)
		}
		if len(content) > source.MaxSize {
			return exit.Usagef("%s: larger than 1 MB", name)
		}
		total += len(content)
	}
	if total > maxTotal {
		return exit.Usagef("configs of %d bytes, more than %d", total, maxTotal)
	}
	return nil
}

// keep writes configs into a directory of their own: they may hold secrets,
// which everybody could read in argv. done removes it.
func (p places) keep(configs map[string]string) (dir string, names []string, done func(), err error) {
	dir, err = os.MkdirTemp(p.scratch, "configs-") // 0700
	if err != nil {
		return "", nil, nil, fmt.Errorf("keep configs: %w", err)
	}
	done = func() { os.RemoveAll(dir) }
	for name, content := range configs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			done()
			return "", nil, nil, fmt.Errorf("keep configs: %w", err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return dir, names, done, nil
}

// run runs kairos-config and returns what it prints, also when it fails. What
// it says of configs names them as the caller does.
func (s *service) run(ctx context.Context, r request) ([]byte, error) {
	argv := append([]string{"kairos-config"}, r.args...)
	for _, name := range r.remove {
		argv = append(argv, "--remove", name)
	}
	dir := ""
	if len(r.configs) > 0 {
		where, names, done, err := s.keep(r.configs)
		if err != nil {
			return nil, err
		}
		defer done()
		dir, argv = where, append(argv, names...)
	}
	if r.outside {
		return s.runOutside(ctx, dir, argv)
	}
	return output(ctx, run.Runner{Dir: dir}, argv)
}

// runOutside runs a program in a unit of its own, which is stopped when ctx
// ends.
func (s *service) runOutside(ctx context.Context, dir string, argv []string) ([]byte, error) {
	unit := "kairos-config-apply-" + strings.ToLower(rand.Text()) + ".service"
	// What commands leave running belongs to the node, as in
	// kairos-config@.service.
	own := []string{"systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit=" + unit,
		"--description=Cloud-config applied without a reboot", "--property=KillMode=process", "--property=OOMPolicy=continue",
		"--property=ImportCredential=kairos.*"}
	if dir != "" {
		own = append(own, "--working-directory="+dir)
	}
	out, err := output(ctx, run.Runner{}, append(append(own, "--"), argv...))
	var failed *run.Error
	if errors.As(err, &failed) { // it says what the program in the unit said
		failed.Program = argv[0]
	}
	if ctx.Err() != nil {
		if _, stop := (run.Runner{}).Output(context.WithoutCancel(ctx), "systemctl", "stop", unit); stop != nil {
			s.log.Warn("stop what is applied", "unit", unit, "error", stop)
		}
	}
	return out, err
}

// maxLines is how many lines of what a program says before it fails become
// part of the error.
const maxLines = 100

// output runs a program. Its error tells all that it said, because that is
// where it names what is wrong with a config.
func output(ctx context.Context, runner run.Runner, argv []string) ([]byte, error) {
	var said []string
	runner.Line = func(_, line string) {
		if len(said) < maxLines {
			said = append(said, strings.TrimPrefix(line, "kairos-config: "))
		}
	}
	out, err := runner.Output(ctx, argv...)
	if err != nil && len(said) > 0 {
		err = fmt.Errorf("%w\n%s", err, strings.Join(said, "\n"))
	}
	// Where there is no result, the error is the object on stdout: it is no result.
	var failed exit.Report
	if err != nil && json.Unmarshal(out, &failed) == nil && failed.MessageType == "exit_error" {
		out = nil
	}
	return out, err
}
