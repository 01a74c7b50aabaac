package assess

import (
	"context"
	"errors"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Started is a boot whose start was recorded.
type Started struct {
	history.Boot
	Unrecorded error // says what could not be recorded or settled: the rest has been
}

// Start records that this boot has mounted its local file systems, and handles the
// results of earlier boots: deployments that used up their tries are quarantined. A
// second call changes nothing.
//
// The error is deployment.ErrNotBooted where the running system is no deployment. Other
// errors say what could not be recorded; the rest was done.
func (n *Node) Start(ctx context.Context) (s Started, err error) {
	booted, err := n.Booted()
	if errors.Is(err, deployment.ErrNotBooted) {
		return s, err
	}
	if err != nil {
		return Started{Unrecorded: err}, nil
	}
	s.Boot, s.Unrecorded = n.recordStart(ctx, booted)
	if judged(booted.Mode) {
		s.Unrecorded = errors.Join(s.Unrecorded, n.settle(ctx, booted))
	}
	return s, nil
}

// recordStart records the start of this boot. A soft reboot starts another one, which the
// boot loader does not count.
func (n *Node) recordStart(ctx context.Context, booted deployment.Booted) (history.Boot, error) {
	boot, ok := n.state()
	soft, asked := n.softReboots(ctx)
	if ok && (!asked || soft == boot.SoftReboots) {
		return boot, nil
	}
	start := startOf(booted, n.trial(booted, soft))
	boot, err := n.update(func(b *history.Boot) {
		*b = n.newBoot()
		b.Start, b.SoftReboots = start, soft
		if !judged(booted.Mode) {
			b.Outcome, b.Reason = history.Unjudged, start.Trial.Uncounted
		}
	})
	if !judged(booted.Mode) {
		return boot, err
	}
	if _, lasting := n.history(); !lasting {
		n.Log.Warn("no persistent storage: the record of this boot is lost at the next reboot", "wanted", HistoryDir)
	}
	return boot, errors.Join(err, n.record(history.Event{Kind: history.KindStart, Start: &start}))
}

func startOf(b deployment.Booted, t history.Trial) history.Start {
	return history.Start{
		Deployment: b.ID, Version: b.Version, Reference: b.Reference,
		ImageDigest: b.ImageDigest, ManifestDigest: b.ManifestDigest,
		Entry: entryBase(b), Mode: b.Mode, Trial: t,
	}
}
