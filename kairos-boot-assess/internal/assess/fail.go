package assess

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/report/boots"
)

// Observe is the kernel argument that keeps a bad boot running for debugging: it is
// recorded, but the machine is not rebooted.
const Observe = "kairos.assess=observe"

// pid1Timeout is how long an answer of systemd may take: systemd may be broken.
const pid1Timeout = 20 * time.Second

// Failure is the result of Fail.
type Failure struct {
	Boot     history.Boot
	Rebooted bool
	Stays    string // why the machine is not rebooted
}

// Fail records why this boot has failed, and reboots the machine when the boot is on
// trial. Other boots, of deployments that were good before, are recorded and left
// running: a reboot would only repeat the failure.
//
// The error is that of the reboot, which is tried whatever else fails.
func (n *Node) Fail(ctx context.Context) (Failure, error) {
	booted, err := n.Booted()
	if err != nil {
		return Failure{}, err
	}
	asking, cancel := context.WithTimeout(ctx, pid1Timeout)
	defer cancel()
	systemd, err := n.Dial(asking)
	if err != nil {
		n.Log.Error(err.Error())
	} else {
		defer systemd.Close()
	}
	boot := n.bootOf(asking, booted, systemd)
	if boot.Outcome == history.Unjudged {
		return Failure{Boot: boot, Stays: fmt.Sprintf("%s systems are not judged", boot.Mode)}, nil
	}
	if wish := n.emergencyWished(); wish != "" {
		return Failure{Boot: boot, Stays: wish + " on the kernel command line asked for this"}, nil
	}
	blessed := boot.Outcome == history.Good
	boot = n.condemnBoot(n.why(asking, systemd, boot))
	f := Failure{Boot: boot, Stays: n.stays(boot, blessed)}
	if f.Stays != "" {
		return f, nil
	}
	if systemd == nil {
		return f, fmt.Errorf("reboot: %w", err)
	}
	n.Log.Error(f.String())
	if err := systemd.Reboot(asking); err != nil {
		return f, err
	}
	f.Rebooted = true
	return f, nil
}

// unknownEntry stands for the next entry where the ESP could not be read: it is assumed
// that there is one.
const unknownEntry = "unknown"

// bootOf returns what is known about this boot. Where nothing was recorded yet it does
// not access the ESP, which may be the cause of a hang. systemd is nil when it can't be
// asked.
func (n *Node) bootOf(ctx context.Context, booted deployment.Booted, systemd PID1) history.Boot {
	boot, ok := n.state()
	soft := boot.SoftReboots
	if systemd != nil {
		if count, err := systemd.SoftReboots(ctx); err != nil {
			n.Log.Warn(err.Error())
		} else {
			soft = count
		}
	}
	if ok && soft == boot.SoftReboots {
		return boot
	}
	boot = n.newBoot()
	boot.Start, boot.SoftReboots = startOf(booted, n.counted(booted, soft)), soft
	boot.Trial.Alternative = unknownEntry
	if !judged(booted.Mode) {
		boot.Outcome = history.Unjudged
		return boot
	}
	if _, err := n.update(func(b *history.Boot) { *b = boot }); err != nil {
		n.Log.Error(err.Error())
	}
	if err := n.record(history.Event{Kind: history.KindStart, Start: &boot.Start}); err != nil {
		n.Log.Error(err.Error())
	}
	return boot
}

// condemnBoot records a bad verdict.
func (n *Node) condemnBoot(reason string) history.Boot {
	told := false
	boot, err := n.update(func(b *history.Boot) {
		told = b.Outcome == history.Bad && b.Reason == reason
		b.Outcome, b.Reason = history.Bad, reason
		if !told {
			b.Marked = false
			b.Assessed, b.UptimeMS = n.Now().UTC(), n.Uptime().Milliseconds()
		}
	})
	if !told {
		verdict := boot.Verdict
		err = errors.Join(err, n.record(history.Event{Kind: history.KindVerdict, Verdict: &verdict}))
		n.writeJournal(verdictEntry(boot))
	}
	if err != nil {
		n.Log.Error(err.Error())
	}
	return boot
}

// stays returns why a bad boot is not rebooted, or "".
func (n *Node) stays(boot history.Boot, blessed bool) string {
	switch t := boot.Trial; {
	case !t.Counted:
		return "this boot is not on trial: " + t.Uncounted
	case blessed:
		return "this boot was already found good, and is not on trial any more"
	case t.TriesLeft == 0 && t.Alternative == "":
		return "no tries are left, and there is nothing else to boot"
	case slices.Contains(n.kernelArguments(), Observe):
		return Observe + " on the kernel command line asked for this"
	}
	return ""
}

// emergencyWished returns the kernel argument by which a person requested emergency
// mode, or "".
func (n *Node) emergencyWished() string {
	for _, word := range n.kernelArguments() {
		if word == "emergency" || word == "-b" || word == "systemd.unit=emergency.target" {
			return word
		}
	}
	return ""
}

// announce returns the message about what happens next.
func (f Failure) String() string {
	b := f.Boot
	if b.Outcome != history.Bad {
		return fmt.Sprintf("Nothing recorded, not rebooting: %s", f.Stays)
	}
	s := fmt.Sprintf("This boot of %s failed: %s.", boots.Named(b.Deployment, b.Version), b.Reason)
	if f.Stays != "" {
		return s + " Not rebooting: " + f.Stays
	}
	switch t := b.Trial; {
	case t.TriesLeft > 0:
		return fmt.Sprintf("%s Rebooting, %s left", s, plural(t.TriesLeft, "try", "tries"))
	case t.Alternative == unknownEntry:
		return s + " Rebooting, no tries are left"
	default:
		return fmt.Sprintf("%s Rebooting into %s, no tries are left", s, t.Alternative)
	}
}
