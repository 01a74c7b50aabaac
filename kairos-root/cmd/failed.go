package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/run"

	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
	"github.com/kairos-io/toolkit/kairos-root/internal/cli"
	"github.com/kairos-io/toolkit/kairos-root/internal/initrd"
	"github.com/kairos-io/toolkit/kairos-root/internal/trial"
)

func failedCommand() cli.Command {
	return cli.Command{
		Name: "failed", Usage: "show on the console why the boot failed, then reboot or start a shell",
		Run: runFailed,
	}
}

// runFailed handles every emergency of the initrd. It ends with a reboot, and returns
// only where the kernel command line asks for dracut's own shell.
func runFailed(c *cli.Call) error {
	if _, err := os.Stat("/etc/initrd-release"); err != nil {
		return exit.Hint(errors.New("this is not an initrd"), "to reboot, use systemctl reboot")
	}
	// What is done about a failure holds even if the command line is the failure.
	args, _ := readArgs()
	text, failed := reason()
	closed := closedTo(args, disk.Local())
	if closed != "" {
		args.Shell, args.Break = false, false
		text += "\nThere is no shell on this node: " + closed + "."
	}
	if args.Break && !failed {
		return nil // rd.break: the emergency is only dracut's way to a shell
	}
	console := openConsole()
	defer console.close()
	console.say(failureText(text, args, closed))
	if args.Shell {
		runShell()
	} else {
		if note := count(args.Image); note != "" {
			console.say(note)
		}
		// A reboot that nobody can read the reason of helps nobody on the spot; a
		// node that waits for somebody helps nobody far away.
		time.Sleep(args.RebootDelay)
	}
	console.say("rebooting")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return nil
}

// count makes the boot loader count the boots of this deployment from now on, if it
// does not yet, and reports that. See package trial.
func count(image string) string {
	name, err := countOn(disk.Local(), image)
	switch {
	case errors.Is(err, trial.ErrNone):
		return ""
	case err != nil:
		return fmt.Sprintf("failures of this deployment are not counted, so that it always boots again: %v", err)
	}
	return fmt.Sprintf("this deployment was good before: after %d more tries another one boots", name.Left)
}

func countOn(system disk.System, image string) (bls.Name, error) {
	p, err := system.BootPartition()
	if err != nil {
		return bls.Name{}, err
	}
	tree, err := mount.FileSystem{
		Type: "vfat", Options: []mount.Option{{Key: "source", Value: p.Path}}, Attr: mount.NoSuid | mount.NoDev | mount.NoExec,
	}.Create()
	if err != nil {
		return bls.Name{}, err
	}
	defer tree.Close()
	esp, err := os.OpenRoot(tree.Path())
	if err != nil {
		return bls.Name{}, err
	}
	defer esp.Close()
	return trial.Begin(system.Vars, esp, image)
}

// closedTo returns why the console gets no shell, "" where it may have one: the shell
// asks for no password, so there is none where something is encrypted or Secure Boot is
// on.
func closedTo(args bootargs.Args, machine disk.System) string {
	if on, err := machine.Vars.SecureBoot(); err == nil && on {
		return "Secure Boot is on"
	}
	if len(args.Volumes) > 0 {
		return "it has encrypted volumes"
	}
	partitions, err := machine.Partitions()
	if err != nil {
		return "" // no disk, no volume
	}
	for _, p := range partitions {
		if uuid, err := disk.LUKS(p.Path); err == nil && uuid != "" {
			return "it has encrypted volumes"
		}
	}
	return ""
}

// runShell runs a shell on the terminal until it ends. It asks for no password: where
// nothing is encrypted and Secure Boot is off, anybody who can change the kernel
// command line can start any program as init.
func runShell() {
	shell := exec.Command("/bin/sh", "-l")
	shell.Stdin, shell.Stdout, shell.Stderr = os.Stdin, os.Stdout, os.Stderr
	shell.Env = append(os.Environ(), "HOME=/", "TERM=linux", "PS1=kairos# ")
	// The exit status of the shell is ignored.
	_ = shell.Run()
}

// reason returns why the boot failed: the error that kairos-root recorded, or else the
// failed units. failed is false when nothing failed.
func reason() (text string, failed bool) {
	text, err := initrd.ReadFailure(initrd.RunDir)
	if err == nil && text != "" {
		return text, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := run.Runner{}.Output(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
	units := strings.TrimSpace(string(out))
	switch {
	case err != nil:
		return "the reason is unknown (" + exit.Message(err) + ")", true
	case units == "":
		return "something in the initrd started emergency mode, but no unit failed", false
	}
	return "failed units:\n" + units, true
}

// failureText returns the message for the operator.
func failureText(reason string, args bootargs.Args, closed string) string {
	text := "The system cannot be started.\n" + reason + "\n"
	if args.Image != "" && !strings.Contains(reason, args.Image) {
		text += fmt.Sprintf("image %s, store %s\n", args.Image, args.Store)
	}
	if args.Shell {
		return text + "Starting a shell, because of rd.kairos.shell. The machine reboots when it exits.\n"
	}
	text += fmt.Sprintf("Rebooting in %v, so that the boot loader can choose another entry.\n", args.RebootDelay)
	if closed == "" {
		text += "With rd.kairos.shell on the kernel command line there is a shell instead.\n"
	}
	return text
}

// console returns a writer to the console and to the kernel's log, which serial
// consoles, network consoles and pstore receive. Missing ones are skipped.
type console struct{ tty, kmsg *os.File }

func openConsole() console {
	tty, _ := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	kmsg, _ := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	return console{tty, kmsg}
}

func (c console) close() {
	c.tty.Close()
	c.kmsg.Close()
}

func (c console) say(text string) {
	// A terminal in raw mode wants its carriage returns.
	fmt.Fprintf(c.tty, "\r\n%s\r\n", strings.ReplaceAll(strings.TrimSpace(text), "\n", "\r\n"))
	for line := range strings.Lines(text) {
		// Priority 6: in the log, but not on the console a second time where the
		// kernel is told to be quiet.
		fmt.Fprintf(c.kmsg, "<6>kairos-root: %s", line)
	}
}
