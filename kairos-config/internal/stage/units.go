package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	programs "github.com/kairos-io/toolkit/lib/run"
)

// units writes drop-ins, then enables, disables, masks and starts units, in
// this order.
func (r *run) units(ctx context.Context) {
	s := r.step.Spec.Systemctl
	r.overrides(ctx)
	r.unitFiles(ctx, "enable", s.Enable)
	r.unitFiles(ctx, "disable", s.Disable)
	r.unitFiles(ctx, "mask", s.Mask)
	if len(s.Start) == 0 {
		return
	}
	if !r.Booted {
		r.fail(errors.New("systemctl start: units can be started in the booted system only: enable them here"))
		return
	}
	// Without waiting: what is started may be ordered behind this stage.
	for _, unit := range s.Start {
		if err := systemctl(ctx, "start", "--no-block", "--", unit); err != nil {
			r.fail(err)
			continue
		}
		r.changed("started " + unit)
	}
}

// reached are the states that systemctl is-enabled prints when a verb has
// nothing left to do.
var reached = map[string][]string{
	"enable":  {"enabled", "enabled-runtime", "static", "indirect", "generated", "alias"},
	"disable": {"disabled", "masked", "masked-runtime", "not-found", ""}, // what is not there starts nothing
	"mask":    {"masked", "masked-runtime"},
}

var past = map[string]string{"enable": "enabled", "disable": "disabled", "mask": "masked"}

// unitFiles applies a verb to unit files: all at once, because each call makes
// the service manager reload, and one by one when that fails, to say which.
func (r *run) unitFiles(ctx context.Context, verb string, units []string) {
	units = r.pending(ctx, verb, units)
	if len(units) == 0 {
		return
	}
	if systemctl(ctx, r.unitFileArgs(verb, units...)...) == nil {
		r.changedUnits(verb, units...)
		return
	}
	for _, unit := range units {
		if err := systemctl(ctx, r.unitFileArgs(verb, unit)...); err != nil {
			r.fail(err)
			continue
		}
		r.changedUnits(verb, unit)
	}
}

func (r *run) unitFileArgs(verb string, units ...string) []string {
	args := []string{verb, "--no-ask-password"}
	if r.Node && (verb == "enable" || verb == "mask") {
		// For this boot: /etc/systemd is persistent, and would keep what a config
		// that was taken back had asked for. Only disable can't do without it.
		args = append(args, "--runtime")
	}
	if !r.Booted {
		args = append(args, "--root="+r.Root.Path())
	}
	return append(append(args, "--"), units...)
}

func (r *run) changedUnits(verb string, units ...string) {
	for _, unit := range units {
		r.changed(past[verb] + " " + unit)
	}
}

// pending returns the units that a verb has something to do for: without it
// every boot would reload the service manager.
func (r *run) pending(ctx context.Context, verb string, units []string) []string {
	if len(units) == 0 {
		return nil
	}
	states := r.unitFileStates(ctx, units)
	if len(states) != len(units) { // some don't exist
		states = nil
		for _, unit := range units {
			states = append(states, strings.Join(r.unitFileStates(ctx, []string{unit}), ""))
		}
	}
	var list []string
	for i, unit := range units {
		if !slices.Contains(reached[verb], states[i]) {
			list = append(list, unit)
		}
	}
	return list
}

// unitFileStates returns what systemctl is-enabled prints, a word for each
// unit that exists.
func (r *run) unitFileStates(ctx context.Context, units []string) []string {
	argv := append([]string{"systemctl"}, r.unitFileArgs("is-enabled", units...)...)
	out, _ := programs.Runner{}.Output(ctx, argv...) // its exit status says only whether all are enabled
	return strings.Fields(string(out))
}

func systemctl(ctx context.Context, args ...string) error {
	if _, err := (programs.Runner{}).Output(ctx, append([]string{"systemctl"}, args...)...); err != nil {
		return fmt.Errorf("%s %s: %w", args[0], args[len(args)-1], err)
	}
	return nil
}
