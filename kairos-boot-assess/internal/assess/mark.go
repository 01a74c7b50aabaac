package assess

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/kind"
)

// Errors that need no more than their kind to be acted upon.
var (
	ErrArgument   = errors.New("wrong argument")
	ErrNotJudged  = errors.New("a system of another mode than a deployment's")
	ErrNoFallback = errors.New("there is nothing else to boot")
	ErrOnTrial    = errors.New("this boot is still on trial")
)

// maxReason is the maximum length of a reason, in bytes.
const maxReason = 1024

// MaxTries is the maximum number of tries of an entry.
const MaxTries = 9

// MarkGood records a good verdict of an operator on this boot and removes the counters
// from its entry.
func (n *Node) MarkGood(ctx context.Context) (history.Boot, error) {
	boot, own, err := n.markable(ctx)
	if err != nil {
		return boot, err
	}
	if boot, err = n.mark(history.Good, ""); err != nil {
		return boot, err
	}
	return boot, n.count(bls.Name{Base: own.Base})
}

// Bless removes the counters of this boot from its entry, and reports whether it
// changed anything. It runs before systemd-bless-boot, which renames the entry: on FAT
// a power cut during a rename can leave an empty entry. It leaves an entry with other
// counters alone.
func (n *Node) Bless(ctx context.Context) (history.Boot, bool, error) {
	boot, own, err := n.markable(ctx)
	if err != nil {
		return boot, false, err
	}
	t := boot.Trial
	if !t.Counted || boot.Outcome == history.Bad || own != (bls.Name{Base: own.Base, Counted: true, Left: t.TriesLeft, Done: t.TriesDone}) {
		return boot, false, nil
	}
	return boot, true, n.count(bls.Name{Base: own.Base})
}

// MarkBad records a bad verdict of an operator on this boot and removes all tries from
// its entry, so that another entry boots next: for failures that appear after a boot
// was found good. Without another entry it returns an error.
//
// It records the verdict before it changes the entry, so that the next boot knows the
// reason.
func (n *Node) MarkBad(ctx context.Context, reason string) (history.Boot, error) {
	reason = strings.TrimSpace(reason)
	if len(reason) > maxReason || strings.ContainsFunc(reason, unicode.IsControl) {
		return history.Boot{}, kind.Errorf(ErrArgument, "reason: not one line of at most %d bytes", maxReason)
	}
	boot, own, err := n.markable(ctx)
	if err != nil {
		return boot, err
	}
	next, err := n.alternative(own.Base)
	if err != nil {
		return boot, err
	}
	if next == "" {
		return boot, ErrNoFallback
	}
	if reason == "" {
		reason = "no reason given"
	}
	if boot, err = n.mark(history.Bad, "marked bad: "+reason); err != nil {
		return boot, err
	}
	boot.Trial.Alternative = next
	return boot, n.count(bls.Name{Base: own.Base, Counted: true, Done: max(1, own.Done+own.Left)})
}

// Rearm gives the running deployment's entry tries again: its next boots are on trial.
// During a boot on trial it returns an error, since blessing searches the counters of
// that boot.
func (n *Node) Rearm(ctx context.Context, tries int) (history.Boot, error) {
	if tries < 1 || tries > MaxTries {
		return history.Boot{}, kind.Errorf(ErrArgument, "%d tries: not from 1 to %d", tries, MaxTries)
	}
	boot, own, err := n.markable(ctx)
	if err != nil {
		return boot, err
	}
	if boot.Outcome == history.Pending || own.State() == bls.Pending && own.Done > 0 {
		return boot, ErrOnTrial
	}
	return boot, n.count(bls.Name{Base: own.Base, Counted: true, Left: tries})
}

// markable returns this boot and the name of its entry, if an operator may decide about
// it.
func (n *Node) markable(ctx context.Context) (history.Boot, bls.Name, error) {
	started, err := n.Start(ctx)
	if err != nil {
		return history.Boot{}, bls.Name{}, err
	}
	if started.Unrecorded != nil { // what came before has no say in this
		n.Log.Warn(started.Unrecorded.Error())
	}
	boot := started.Boot
	if boot.Outcome == history.Unjudged {
		return boot, bls.Name{}, kind.Errorf(ErrNotJudged, "%s systems are not judged", boot.Mode)
	}
	entries, err := n.entries()
	if err != nil {
		return boot, bls.Name{}, err
	}
	for _, e := range entries {
		if e.Name.Base == boot.Entry {
			return boot, e.Name, nil
		}
	}
	return boot, bls.Name{}, fmt.Errorf("boot entry %q: %w", boot.Entry, fs.ErrNotExist)
}

// alternative returns the entry that boots when base is bad, or "".
func (n *Node) alternative(base string) (string, error) {
	entries, err := n.entries()
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name.Base != base && e.Name.State() != bls.Bad {
			return e.Name.Base, nil
		}
	}
	return "", nil
}

// mark records an operator's verdict.
func (n *Node) mark(outcome history.Outcome, reason string) (history.Boot, error) {
	boot, err := n.update(func(b *history.Boot) {
		b.Outcome, b.Reason, b.Marked = outcome, reason, true
		b.Assessed, b.UptimeMS = n.Now().UTC(), n.Uptime().Milliseconds()
	})
	if err != nil {
		return boot, err
	}
	verdict := boot.Verdict
	if err := n.record(history.Event{Kind: history.KindVerdict, Verdict: &verdict}); err != nil {
		return boot, err
	}
	n.writeJournal(verdictEntry(boot))
	return boot, nil
}

// count changes the counters of an entry on the ESP.
func (n *Node) count(to bls.Name) error {
	root, err := os.OpenRoot(n.path(ESPDir))
	if err != nil {
		return fmt.Errorf("count boot entry: %w", err)
	}
	defer root.Close()
	return bls.ESP{Root: root}.Count(to)
}
