package cmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
)

// A mode says what a command does to a node: Look, or Change.
type mode struct {
	command   string // "": it only looks, and nobody is told
	reference string // what the command is about, may be ""
	reading   bool   // it takes no lock, and others are not told
	creates   bool   // it makes the store where there is an empty directory
	medium    bool   // the store is written to a medium afterwards
}

// Look is the mode of commands that change nothing.
var Look = mode{}

// Change is the mode of a command that changes the node. It holds the lock, and
// others see by its name how far it is and how it ends.
func Change(command string) mode { return mode{command: command} }

// changeUnless is Change unless it is a dry run.
func changeUnless(dryRun bool, command string) mode {
	if dryRun {
		return Look
	}
	return Change(command)
}

// writes reports whether the node is opened for writing.
func (m mode) writes() bool { return m.command != "" && !m.reading }

// creating is a mode that makes the store where there is none.
func (m mode) creating() mode { m.creates = true; return m }

// forMedium says that fs-verity is enabled on the store's files by kairos-media.
func (m mode) forMedium(yes bool) mode { m.medium = yes; return m }

// on says what a command is about.
func (m mode) on(reference string) mode { m.reference = reference; return m }

// begin says how a node is opened.
type begin struct {
	mode
	by      *transaction.Caller // who asked for it; nil: this process
	bar     *progress.Reporter
	log     *slog.Logger
	onState func(transaction.State) // is told how far it is; may be nil
}

// opened is a node, and what it takes to close it.
type opened struct {
	*deploy.Node
	machine   machine
	store     *view.View
	published *transaction.Publication // nil when it is only looked at
	esp       *view.View
}

// start opens a node.
func (m machine) start(ctx context.Context, w where, b begin) (*opened, error) {
	booted, err := deployment.ReadBooted(m.booted)
	if err != nil && !errors.Is(err, deployment.ErrNotBooted) {
		return nil, err
	}
	write := b.writes()
	sv, running, err := m.openStore(w, booted, write)
	if err != nil {
		return nil, err
	}
	if !running {
		booted = deployment.Booted{}
	}
	holder := store.Holder{PID: os.Getpid(), Command: b.command, Reference: b.reference, Since: time.Now()}
	s, err := openStore(ctx, sv, b.mode, holder)
	if err != nil {
		return nil, err
	}
	ev, err := m.openESP(w, write)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	o := &opened{machine: m, store: sv, esp: ev, Node: &deploy.Node{
		Store:    s,
		Loader:   boot.NewSystemdBoot(ev, m.knowsUKI()),
		Label:    w.label,
		Booted:   booted,
		MustBoot: m.mustBoot && !w.given,
		Log:      b.log,
		Progress: b.bar,
		Apart:    m.apart(),
	}}
	if b.medium {
		o.Medium = ev.Root
	}
	if o.SecureBoot, err = m.disks.Vars.SecureBoot(); err != nil {
		b.log.Warn("cannot determine whether Secure Boot is on", "error", err)
	}
	if !w.given { // the running node's own store
		o.Unlocked = m.disks.Unlocked()
	}
	if b.command == "" {
		return o, nil
	}
	if write && w.label == disk.LabelRecovery {
		if err := noReset(o.Loader); err != nil {
			return nil, errors.Join(err, o.Store.Close(), o.esp.Close())
		}
	}
	by := transaction.Caller{UID: uint32(os.Getuid()), PID: uint32(os.Getpid())}
	if b.by != nil {
		by = *b.by
	}
	held := holder
	if write {
		held = s.Held()
	}
	board := m.board(s)
	if b.reading {
		board = transaction.Board{}
	}
	o.published = board.Publish(transaction.New(held, by), b.onState)
	b.bar.Observe(o.published.Observe)
	o.logTransaction(journal.TransactionBegan)
	return o, nil
}

// noReset refuses to change the recovery system while a reset is armed: the
// reset boots the image that was there then.
func noReset(l boot.Loader) error {
	entries, err := l.Entries()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, func(e bls.Entry) bool { return strings.EqualFold(e.Name.Base, deployment.ResetEntry) }) {
		return exit.Hint(exit.WithCode(errors.New("a reset is armed, which needs the recovery system"), exit.Busy),
			"run kairos-reset cancel, or reboot to finish the reset")
	}
	return nil
}

// logTransaction writes to the journal that the transaction has begun or ended.
func (o *opened) logTransaction(messageID string) {
	s := o.published.State()
	what := strings.TrimSpace(s.Operation + " " + s.Reference)
	e := journal.Entry{MessageID: messageID, Priority: 6, Message: what + ": begun", Fields: map[string]string{
		"KAIROS_TRANSACTION": s.ID, "KAIROS_OPERATION": s.Operation, "KAIROS_REFERENCE": s.Reference,
	}}
	if s.Completed {
		e.Message, e.Fields["KAIROS_STATUS"] = what+": done", strconv.Itoa(s.Status)
	}
	if s.Error != "" {
		e.Message, e.Fields["KAIROS_ERROR"] = what+": ended with "+s.Error, s.Error
	}
	o.machine.writeJournal(o.Log, e)
}

// board is where transactions of a store are published.
func (m machine) board(s *store.Store) transaction.Board {
	return transaction.Board{Dir: m.run, Name: s.Key()}
}

// end says how it ended, while the lock is still held, and closes the node.
func (o *opened) end(err error) {
	o.Progress.Close()
	if o.published != nil {
		o.Progress.Observe(nil)
		err = explain(err)
		o.published.Finish(err, exit.Code(err), exit.HintOf(err))
		o.logTransaction(journal.TransactionEnded)
	}
	if err := errors.Join(o.Store.Close(), o.esp.Close()); err != nil {
		o.Log.Warn("close", "error", err)
	}
}
