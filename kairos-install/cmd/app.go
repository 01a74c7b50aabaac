// Package cmd implements the command line of kairos-install: options, checks, questions
// and results.
package cmd

import (
	"os"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/kairos-install/internal/target"
	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/mountns"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// Machine is the machine that kairos-install works on; tests replace it.
type Machine struct {
	Target      target.System
	Root        string   // root directory in which the live system's configs are searched
	Booted      string   // file that describes the running system, see lib/deployment
	Store       string   // mount point of the running store
	Definitions []string // directories of partition definitions
	Loaders     string   // glob of the systemd-boot binaries
	Work        string   // directory for mount points and drop-ins
	Lock        string
	Console     string // console on which a service shows the recovery key
	Hostname    string
	// Enter moves the process into a private mount namespace with an empty Work, so
	// that its mounts disappear with it.
	Enter func(work string) error
	Admin bool // the process runs as root
	// Verity says that the kernel's ext4 supports fs-verity.
	Verity bool
	// EFI says that the firmware is UEFI, Variables that its variables can be written.
	EFI, Variables bool
}

// Local returns the running machine.
func Local() Machine {
	const efivars = "/sys/firmware/efi/efivars"
	hostname, _ := os.Hostname()
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	return Machine{
		Target:      target.Local(),
		Root:        "/",
		Booted:      deployment.BootedPath,
		Store:       deployment.StoreMount,
		Definitions: layout.SystemDefinitions,
		Loaders:     "/usr/lib/systemd/boot/efi/systemd-boot*.efi*",
		Work:        "/run/kairos/install",
		Lock:        "/run/kairos/install.lock",
		Console:     "/dev/console",
		Hostname:    hostname,
		Enter:       func(work string) error { return mountns.Enter(work) },
		Admin:       os.Geteuid() == 0,
		Verity:      exists("/sys/fs/ext4/features/verity"),
		EFI:         exists("/sys/firmware/efi"),
		Variables:   unix.Access(efivars, unix.W_OK) == nil && exists(efivars),
	}
}

// App returns the application.
func App(m Machine) *cli.App {
	app := cmdline.New("kairos-install", "put an image on a disk")
	app.UsageText = "kairos-install [options]"
	app.Flags = []cli.Flag{
		&cli.StringFlag{Name: "device", Usage: "install on `DEV`, or auto: on the largest suitable disk (default: auto)"},
		&cli.StringFlag{Name: "image", Usage: "install the image `SOURCE` (default, in a live system: the image of the live system)"},
		&cli.StringSliceFlag{Name: "config", Usage: "copy the cloud-config in `FILE` to the node (repeatable)"},
		&cli.StringSliceFlag{Name: "karg", Usage: "add `ARG` to the node's kernel command line (repeatable)"},
		&cli.StringSliceFlag{Name: "definitions", Usage: "take partition definitions from `DIR` first (repeatable)"},
		&cli.StringSliceFlag{Name: "encrypt", Usage: "encrypt the partition `LABEL`: COS_OEM, COS_PERSISTENT or one of the site's (repeatable)"},
		&cli.StringSliceFlag{Name: "enroll", Usage: "add a key slot of `KIND` beside the recovery key: tpm2 (default), passphrase or none (repeatable)"},
		&cli.StringFlag{Name: "passphrase-file", Usage: "take that passphrase from `FILE`"},
		&cli.StringFlag{Name: "save-recovery-key", Usage: "write the recovery key to the new `FILE`"},
		&cli.BoolFlag{Name: "reboot", Usage: "reboot when done"},
		&cli.BoolFlag{Name: "poweroff", Usage: "power off when done"},
		&cli.BoolFlag{Name: "interactive", Usage: "ask for disk, image, user, network and encryption on the terminal, and show the plan"},
		cmdline.DryRunFlag(),
		cmdline.WaitFlag(),
		cmdline.YesFlag(),
		cmdline.QuietFlag(),
		cmdline.JSONFlag(),
	}
	cmdline.Completes(app, argv.Values{
		"KIND":  argv.Words("tpm2", "passphrase", "none"),
		"LABEL": argv.Words("COS_OEM", "COS_PERSISTENT"),
	})
	app.Action = func(c *cli.Context) error {
		if _, err := cmdline.Arguments(c); err != nil {
			return err
		}
		return install(c, m)
	}
	return app
}
