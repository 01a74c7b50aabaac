package main

import (
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/transaction"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/urfave/cli/v2"
)

// machine is the running node, as far as the commands look at it.
type machine struct {
	booted string // file that says what is running
	store  string // where its store is mounted
	esp    string // where its EFI system partition is mounted
	run    string // where transactions are published
	isESP  func(*view.View) bool
	disks  disk.System
}

func thisMachine() machine {
	return machine{booted: deployment.BootedPath, store: deployment.StoreMount, esp: "/efi", run: transaction.Dir, isESP: isFAT, disks: disk.Local()}
}

func app(m machine) *cli.App {
	a := cmdline.New("kairos-upgrade", "stage an image as the next boot, and keep the store of deployments")
	a.DisableSliceFlagSeparator = true // console=ttyS0,115200 is one kernel argument
	a.Commands = []*cli.Command{
		stageCommand(m),
		statusCommand(m),
		rollbackCommand(m),
		pinCommand(m),
		unpinCommand(m),
		gcCommand(m),
		verifyCommand(m),
		digestCommand(),
		inspectCommand(),
		watchCommand(m),
		serveCommand(m),
		quarantineCommand(m),
	}
	return a
}
