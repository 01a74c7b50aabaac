package checks

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
)

// FailedUnitsName is the name of the built-in check for failed units.
const FailedUnitsName = "failed-units"

// ServiceManager is the interface to systemd for the check of failed units.
type ServiceManager interface {
	// Units returns the loaded units in one of the states, all without states.
	Units(ctx context.Context, states ...string) ([]pid1.Unit, error)
	// Restarts returns how often systemd has restarted a service automatically.
	Restarts(ctx context.Context, u pid1.Unit) (int, error)
	// Up returns for how long a unit has been active without a break.
	Up(ctx context.Context, u pid1.Unit) (time.Duration, error)
	// Origin returns why a unit runs.
	Origin(ctx context.Context, u pid1.Unit) (pid1.Origin, error)
	// Result returns the result of a unit: "exit-code", …, "" if it has none.
	Result(ctx context.Context, u pid1.Unit) string
	// Changed returns a channel that receives after units or jobs changed.
	Changed() <-chan struct{}
}

// IgnoredUnits are patterns of units whose failure does not depend on the image: the
// network may be down, a console may not exist, and staging the next image does not
// concern this one.
var IgnoredUnits = []string{
	"*-wait-online.service", "*-wait-online@*.service",
	"getty@*.service", "serial-getty@*.service", "console-getty.service",
	"user@*.service", "user-runtime-dir@*.service", "session-*.scope",
	"kairos-upgrade*.service", "kairos-boot-assess*.service",
	"kairos-*-bus.service", "dbus-io.kairos.*.service", // anybody may call them
	"kairos-crypt-unlock@*.service", // has a check of its own
}

// calm is how long restarted services have to stay active before they count as started:
// systemd's DefaultStartLimitIntervalSec=, within which a crash loop ends as a failed
// unit.
const calm = 10 * time.Second

// FailedUnits returns the built-in check for failed units. It watches services that
// systemd restarts until they have failed or stayed active for a while.
func FailedUnits(dial func(context.Context) (ServiceManager, func(), error), ignore []string) func(context.Context, io.Writer, io.Writer) error {
	return func(ctx context.Context, out, problem io.Writer) error {
		manager, hangup, err := dial(ctx)
		if err != nil {
			return fmt.Errorf("ask systemd: %w", err)
		}
		defer hangup()
		w := watch{manager: manager, ignore: ignore, out: out, problem: problem}
		return w.run(ctx)
	}
}

type watch struct {
	manager  ServiceManager
	ignore   []string
	out      io.Writer
	problem  io.Writer
	restarts map[string]int // number of restarts by service
}

func (w *watch) run(ctx context.Context) error {
	var quiet <-chan time.Time // set while restarting services are watched
	for {
		failed, err := w.names(ctx, "failed")
		if err != nil {
			return err
		}
		if len(failed) > 0 {
			return fmt.Errorf("%s failed", List(failed))
		}
		known := len(w.restarts)
		changed, err := w.count(ctx)
		if err != nil {
			return err
		}
		if len(w.restarts) == 0 {
			return nil
		}
		if len(w.restarts) > known {
			fmt.Fprintf(w.out, "systemd restarted %s: waiting to see whether it stays up\n", List(w.watched()))
		}
		if changed {
			quiet = time.After(calm)
		}
		select {
		case <-w.manager.Changed():
		case <-quiet:
			down, err := w.names(ctx, "auto-restart", "auto-restart-queued")
			if err != nil || len(down) == 0 {
				return err
			}
			quiet = time.After(calm)
		case <-ctx.Done():
			fmt.Fprintf(w.problem, "%s keeps restarting\n", List(w.watched()))
			return ctx.Err()
		}
	}
}

// count updates the number of restarts and reports whether it changed.
func (w *watch) count(ctx context.Context) (changed bool, err error) {
	units, err := w.manager.Units(ctx)
	if err != nil {
		return false, fmt.Errorf("ask systemd for its units: %w", err)
	}
	if w.restarts == nil {
		w.restarts = map[string]int{}
	}
	for _, u := range units {
		if !strings.HasSuffix(u.Name, ".service") || u.Active == "inactive" || w.ignored(u.Name) {
			continue
		}
		n, err := w.manager.Restarts(ctx, u)
		if err != nil {
			continue // gone meanwhile
		}
		if strings.HasPrefix(u.Sub, "auto-restart") {
			n++ // the restart that is coming
		} else if n > 0 && w.restarts[u.Name] == 0 {
			// It fell once and stands since: journald does so at every switch of
			// the root, and that is long ago.
			if up, err := w.manager.Up(ctx, u); err == nil && up >= calm {
				continue
			}
		}
		if n > w.restarts[u.Name] && !byOthers(ctx, w.manager, u) {
			w.restarts[u.Name], changed = n, true
		}
	}
	return changed, nil
}

// names returns the units in one of the states, except ignored ones and those that
// other users can make fail.
func (w *watch) names(ctx context.Context, states ...string) ([]string, error) {
	units, err := w.manager.Units(ctx, states...)
	if err != nil {
		return nil, fmt.Errorf("ask systemd for its units: %w", err)
	}
	var names []string
	for _, u := range units {
		if !w.ignored(u.Name) && !byOthers(ctx, w.manager, u) {
			names = append(names, u.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (w *watch) ignored(unit string) bool {
	return slices.ContainsFunc(w.ignore, func(pattern string) bool {
		ok, err := path.Match(pattern, unit)
		return err == nil && ok
	})
}

func (w *watch) watched() []string {
	var names []string
	for name := range w.restarts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// List names units, at most five.
func List(units []string) string {
	const most = 5
	if len(units) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(units[:most], ", "), len(units)-most)
	}
	return strings.Join(units, ", ")
}
