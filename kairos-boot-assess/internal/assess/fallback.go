package assess

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/remains"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/journal"
)

// settle finds the deployments that have used up their tries and were not handled
// before: each is quarantined, logged and recorded, once. If that fails, the next call
// tries again.
func (n *Node) settle(ctx context.Context, booted deployment.Booted) error {
	entries, err := n.entries()
	if err != nil {
		return err
	}
	log, _ := n.history()
	events, err := log.Read()
	if err != nil {
		n.Log.Warn(err.Error())
	}
	store, err := os.OpenRoot(n.path(deployment.StoreMount))
	if err != nil {
		return fmt.Errorf("look for failed deployments: %w", err)
	}
	defer store.Close()
	var failed error
	for _, e := range entries {
		id, ours := deployment.IDOfEntry(e.Name.Base)
		if !ours || e.Name.State() != bls.Bad || id == booted.ID || settled(events, id) {
			continue
		}
		failed = errors.Join(failed, n.condemn(ctx, store, booted, id, e.Name.Done, events))
	}
	return failed
}

// settled reports whether the history has the fallback from a deployment, and no later
// good boot of it.
func settled(events []history.Event, id string) bool {
	ended, boots := false, map[string]bool{}
	for _, e := range events {
		switch {
		case e.Kind == history.KindStart && e.Start.Deployment == id:
			boots[e.BootID] = true
		case e.Kind == history.KindFallback && e.Fallback.From == id:
			ended = true
		case e.Kind == history.KindVerdict && e.Verdict.Outcome == history.Good && boots[e.BootID]:
			ended = false
		}
	}
	return ended
}

// condemn handles one deployment that has used up its tries.
func (n *Node) condemn(ctx context.Context, store *os.Root, booted deployment.Booted, id string, tries int, events []history.Event) error {
	record, err := deployment.Read(store, id)
	if err != nil { // collected, or damaged: nothing can be quarantined
		n.Log.Warn("a boot entry used up its tries and its deployment is unknown", "deployment", id, "error", err)
	}
	boots := history.Of(history.Boots(events, n.bootID()), id)
	reason, judged := whyBad(boots, tries)
	trace := n.trace(ctx, record, boots)
	// A kernel that crashed has failed, whoever could write that down.
	noVerdict := !judged && len(trace.Kernel) == 0
	if !judged && !noVerdict {
		reason += "; the kernel crashed"
	}
	f := history.Fallback{
		From: id, FromVersion: record.Version, To: booted.ID, ToVersion: booted.Version,
		Reason: reason, Tries: tries, ManifestDigest: record.ManifestDigest, FailedBoot: trace,
	}
	known, err := n.quarantined(store, record)
	if err != nil {
		return err
	}
	switch {
	case known != nil && known.Deployment == id:
		return nil // settled before, and the history has forgotten
	case known != nil && known.Cause == deployment.Failed:
		f.Quarantined = true
	default:
		if f.NotQuarantined = spare(record, booted, boots); f.NotQuarantined != "" {
			break
		}
		command := []string{"quarantine", "add", "--deployment", id, "--reason", f.Reason}
		f.TriedAgain = noVerdict && known == nil
		if noVerdict {
			command = append(command, "--no-verdict")
		}
		if err := n.Upgrade(ctx, append(command, record.ManifestDigest)...); err != nil {
			return fmt.Errorf("quarantine the image of deployment %s: %w", id, err)
		}
		f.Quarantined = !f.TriedAgain
	}
	n.writeJournal(journalFallback(f))
	return n.record(history.Event{Kind: history.KindFallback, Fallback: &f})
}

// trace collects the traces of a deployment's last boot. A log that the kernel saved
// may be of any of its boots since it was good: nothing else is known about a boot that
// died in the initrd.
func (n *Node) trace(ctx context.Context, record deployment.Record, boots []history.Boot) *history.Trace {
	t := history.Trace{NoJournal: "none of its boots was recorded"}
	since := record.Created
	if len(boots) > 0 {
		since = boots[0].Started
		for _, b := range boots {
			if b.Outcome == history.Good {
				since = b.Started
			}
		}
		last := boots[len(boots)-1]
		t.BootID, t.NoJournal = last.BootID, ""
		lines, err := n.Lines(ctx, last.BootID, last.Assessed)
		if t.Journal = lines; err != nil {
			t.NoJournal = err.Error()
		}
	}
	var err error
	if t.KernelFile, t.Kernel, err = remains.Kernel(n.Root, since); err != nil {
		t.NoKernel = err.Error()
	}
	return &t
}

func (n *Node) quarantined(store *os.Root, r deployment.Record) (*deployment.Quarantine, error) {
	if r.ManifestDigest == "" {
		return nil, nil
	}
	return deployment.Quarantined(store, r.ManifestDigest)
}

// spare returns why an image is not quarantined although a deployment of it used up its
// tries, or "".
func spare(r deployment.Record, booted deployment.Booted, boots []history.Boot) string {
	switch {
	case r.ManifestDigest == "":
		return "the manifest digest is unknown"
	case r.ManifestDigest == booted.ManifestDigest:
		return "the same image is running"
	case len(boots) > 0 && boots[len(boots)-1].Outcome == history.Good:
		return "its last recorded boot was good: its files on this node may be damaged, or its boot entry could not be blessed"
	}
	return ""
}

// journalFallback returns the journal entry of a fallback.
func journalFallback(f history.Fallback) journal.Entry {
	return journal.Entry{
		Message:   f.String(),
		MessageID: journal.Fallback,
		Priority:  3,
		Fields: map[string]string{
			"KAIROS_DEPLOYMENT":      f.From,
			"KAIROS_VERSION":         f.FromVersion,
			"KAIROS_FALLBACK":        f.To,
			"KAIROS_MANIFEST_DIGEST": f.ManifestDigest,
			"KAIROS_REASON":          f.Reason,
			"KAIROS_TRIES":           strconv.Itoa(f.Tries),
			"KAIROS_QUARANTINED":     strconv.FormatBool(f.Quarantined),
			"KAIROS_FAILED_BOOT":     f.FailedBoot.BootID,
		},
	}
}
