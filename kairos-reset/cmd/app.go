// Package cmd implements the command line of kairos-reset.
package cmd

import (
	"os"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/mountns"
	"github.com/urfave/cli/v2"
)

// Machine is the machine that kairos-reset works on; tests replace it.
type Machine struct {
	Disk    disk.System
	Booted  string // file that describes the running system, see lib/deployment
	Store   string // mount point of the running store
	ESP     string // mount point of the EFI system partition
	Cmdline string // file with the kernel command line
	Console string // console on which a service shows the recovery key
	Work    string // directory for mount points
	// Enter moves the process into a private mount namespace with an empty Work.
	Enter  func(work string) error
	Admin  bool // the process runs as root
	Verity bool // the kernel's ext4 supports fs-verity
}

// esp is the automount point of the EFI system partition.
const esp = "/efi"

// Local returns the running machine.
func Local() Machine {
	_, err := os.Stat("/sys/fs/ext4/features/verity")
	return Machine{
		Disk:    disk.Local(),
		Booted:  deployment.BootedPath,
		Store:   deployment.StoreMount,
		ESP:     esp,
		Cmdline: "/proc/cmdline",
		Console: "/dev/console",
		Work:    "/run/kairos/reset",
		Enter:   func(work string) error { return mountns.Enter(work, esp) },
		Admin:   os.Geteuid() == 0,
		Verity:  err == nil,
	}
}

// App returns the application.
func App(m Machine) *cli.App {
	app := cmdline.New("kairos-reset", "bring this node back to its factory state")
	app.Flags = []cli.Flag{
		&cli.BoolFlag{Name: "oem", Usage: "clear the node's config too"},
		&cli.BoolFlag{Name: "keep-persistent", Usage: "keep the node's data on COS_PERSISTENT"},
		&cli.BoolFlag{Name: "poweroff", Usage: "power off when done, instead of rebooting"},
		&cli.BoolFlag{Name: "ignore-config", Usage: "ignore the key reset of the node's config"},
		&cli.StringFlag{Name: "image", Usage: "deploy the image `SOURCE` (default: the image of the recovery system)"},
		&cli.BoolFlag{Name: "now", Usage: "reboot at once"},
		cmdline.DryRunFlag(), cmdline.YesFlag(), cmdline.JSONFlag(), cmdline.QuietFlag(),
	}
	app.UsageText = "kairos-reset [options] | cancel | status | execute"
	app.Commands = []*cli.Command{
		{Name: "cancel", Usage: "disarm the reset, before the reboot", Flags: []cli.Flag{cmdline.QuietFlag()},
			Action: func(c *cli.Context) error { return cancel(c, m) }},
		{Name: "status", Usage: "show whether a reset is armed, and which phases are done", Flags: []cli.Flag{cmdline.JSONFlag()},
			Action: func(c *cli.Context) error { return status(c, m) }},
		{Name: "execute", Usage: "in the recovery system: execute the armed reset, and reboot", Flags: []cli.Flag{cmdline.JSONFlag(), cmdline.QuietFlag()},
			Action: func(c *cli.Context) error { return execute(c, m) }},
	}
	// Without a command it arms.
	app.Action = func(c *cli.Context) error { return arm(c, m) }
	return app
}
