package assess

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
)

// why determines why boot-complete.target was not reached. systemd is nil when it can't
// be asked.
func (n *Node) why(ctx context.Context, systemd PID1, boot history.Boot) string {
	if boot.Outcome == history.Bad && boot.Reason != "" {
		return boot.Reason
	}
	if systemd == nil {
		return "boot-complete.target was not reached, and systemd does not answer"
	}
	// Without the time that it took, so that tries with the same fault read the
	// same; the history has it beside the reason.
	const missed = "boot-complete.target was not reached"
	failed := n.failedUnits(ctx, systemd)
	if failed == "" {
		failed = n.missingMounts(ctx, systemd)
	}
	switch emergency := n.inEmergency(ctx, systemd); {
	case emergency && failed != "":
		return "emergency mode: " + failed
	case emergency:
		return "emergency mode"
	case boot.Running != "":
		return fmt.Sprintf("%s: check %s is still running", missed, boot.Running)
	}
	jobs, err := systemd.Jobs(ctx)
	if err != nil {
		n.Log.Warn(err.Error())
	}
	switch waiting := blockers(jobs); {
	case waiting != "":
		return missed + ": waiting for " + waiting
	case failed != "":
		return missed + ": " + failed
	}
	return missed
}

func (n *Node) inEmergency(ctx context.Context, systemd PID1) bool {
	units, err := systemd.Units(ctx)
	if err != nil {
		n.Log.Warn(err.Error())
		return false
	}
	return slices.ContainsFunc(units, func(u pid1.Unit) bool {
		return strings.HasPrefix(u.Name, "emergency.") && (u.Active == "active" || u.Active == "activating")
	}) || n.emergencyQueued(ctx, systemd)
}

func (n *Node) emergencyQueued(ctx context.Context, systemd PID1) bool {
	jobs, _ := systemd.Jobs(ctx)
	return slices.ContainsFunc(jobs, func(j pid1.Job) bool { return j.Unit == "emergency.target" && j.Type == "start" })
}

// failedUnits returns the failed units with their results.
func (n *Node) failedUnits(ctx context.Context, systemd PID1) string {
	units, err := systemd.Units(ctx, "failed")
	if err != nil {
		n.Log.Warn(err.Error())
		return ""
	}
	var failed []string
	for _, u := range units {
		s := u.Name + " failed"
		if result := systemd.Result(ctx, u); result != "" && result != "success" {
			s += " (" + result + ")"
		}
		failed = append(failed, s)
	}
	return some(failed)
}

// missingMounts returns the local file systems that are not mounted. A mount whose
// device did not appear is not in the state failed.
func (n *Node) missingMounts(ctx context.Context, systemd PID1) string {
	wanted, err := systemd.Requires(ctx, "local-fs.target")
	if err != nil {
		n.Log.Warn(err.Error())
		return ""
	}
	units, err := systemd.Units(ctx, "active")
	if err != nil {
		n.Log.Warn(err.Error())
		return ""
	}
	var missing []string
	for _, name := range wanted {
		there := slices.ContainsFunc(units, func(u pid1.Unit) bool { return u.Name == name })
		if strings.HasSuffix(name, ".mount") && !there {
			missing = append(missing, name+" is not mounted")
		}
	}
	return some(missing)
}

// blockers returns the jobs for which the boot waits: running ones or, without any,
// those that wait for each other.
func blockers(jobs []pid1.Job) string {
	var running, waiting []string
	for _, j := range jobs {
		switch {
		case j.Type != "start" || strings.HasPrefix(j.Unit, "kairos-boot-assess") || j.Unit == "boot-complete.target":
		case j.State == "running":
			running = append(running, j.String())
		default:
			waiting = append(waiting, j.String())
		}
	}
	if len(running) > 0 {
		return some(running)
	}
	return some(waiting)
}

// some returns names in order, five at most.
func some(list []string) string {
	slices.Sort(list)
	return checks.List(list)
}
