// Package cmd is the command line of kairos-upgrade: one file per command.
package cmd

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/urfave/cli/v2"
)

// machine is the running node, as far as the commands look at it.
type machine struct {
	booted string // file that says what is running
	store  string // where its store is mounted
	esp    string // where its EFI system partition is mounted
	isESP  func(*view.View) bool
	disks  disk.System

	root    string // of the file system with the settings
	run     string // where transactions are published, and the last decision is kept until the next boot
	journal func(journal.Entry) error
	reboot  func(context.Context) error
	notices []string // files that are shown on consoles, and at logins
	now     func() time.Time
	ask     func(context.Context) ([]byte, error) // for the history of boots

	mustBoot bool     // images that can't boot are not staged here
	scratch  []string // where a staging writes beside the store, the ESP and run
}

func thisMachine() machine {
	return machine{
		booted: deployment.BootedPath, store: deployment.StoreMount, esp: "/efi", isESP: isFAT, disks: disk.Local(),
		mustBoot: true,
		root:     "/", run: report.TransactionDir, journal: toJournal, reboot: reboot, now: time.Now, ask: queryHistory,
		scratch: []string{os.TempDir(), "/var/tmp"},
		notices: []string{"/run/issue.d/60-kairos-upgrade.issue", "/run/motd.d/60-kairos-upgrade"},
	}
}

// toJournal writes an entry where the journal is the one to hear.
func toJournal(e journal.Entry) error {
	if !logline.UnderSystemd() {
		return nil
	}
	return journal.Send(journal.Socket, e)
}

// writeJournal writes an entry to the journal. Nothing depends on it.
func (m machine) writeJournal(log *slog.Logger, e journal.Entry) {
	e.Program = "kairos-upgrade"
	if err := m.journal(e); err != nil {
		log.Warn(exit.Message(err))
	}
}

// App returns the program for the machine that it runs on.
func App() *cli.App { return app(thisMachine()) }

func app(m machine) *cli.App {
	a := cmdline.New("kairos-upgrade", "stage an image as the next boot, and keep the store of deployments")
	a.DisableSliceFlagSeparator = true // console=ttyS0,115200 is one kernel argument
	cmdline.Completes(a, m.completions())
	cmdline.Explains(a, explanations)
	a.Commands = []*cli.Command{
		upgradeCommand(m),
		stageCommand(m),
		switchCommand(m),
		statusCommand(m),
		rollbackCommand(m),
		discardCommand(m),
		removeCommand(m),
		pinCommand(m),
		unpinCommand(m),
		gcCommand(m),
		verifyCommand(m),
		loaderCommand(m),
		checkCommand(m),
		listReleasesCommand(m),
		autoCommand(m),
		recoverCommand(m),
		digestCommand(m),
		inspectCommand(m),
		diffCommand(m),
		lintCommand(m),
		unpackCommand(m),
		runHookCommand(m),
		watchCommand(m),
		serveCommand(m),
		readCommand(),
		quarantineCommand(m),
	}
	return a
}
