package cmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"

	"github.com/kairos-io/toolkit/kairos-root/internal/bootargs"
	"github.com/kairos-io/toolkit/kairos-root/internal/cli"
	"github.com/kairos-io/toolkit/kairos-root/internal/initrd"
)

func mountCommand() cli.Command {
	return cli.Command{
		Name: "mount", Usage: "mount the root of the deployment that the kernel command line names",
		Flags: []cli.Flag{{Name: "writable", Usage: "mount the writable paths over the root, after the rootfs stage of the config"}},
		Run:   runMount,
	}
}

func runMount(c *cli.Call) error {
	// Outside of an initrd this would cover the running system.
	if _, err := os.Stat("/etc/initrd-release"); err != nil {
		return exit.Hint(errors.New("this is not an initrd"), "kairos-root status shows what is mounted")
	}
	// A signal ends the program where it stands: systemd sends it when the limit
	// of the unit is reached, and the next thing is a reboot.
	if err := mountIn(context.Background(), c); err != nil {
		return errors.Join(err, initrd.NoteFailure(initrd.RunDir, err))
	}
	// What failed before was mended by hand.
	return initrd.ForgetFailure(initrd.RunDir)
}

func mountIn(ctx context.Context, c *cli.Call) error {
	args, err := readArgs()
	if err != nil {
		return err
	}
	log := slog.New(debugHandler{logline.New(c.Err, "kairos-root", false).Handler(), args.Debug})
	i := initrd.New(args, log)
	if c.Bool("writable") {
		return i.MountWritable(ctx)
	}
	return i.MountRoot(ctx)
}

func readArgs() (bootargs.Args, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return bootargs.Args{}, err
	}
	return bootargs.Parse(strings.TrimSpace(string(line)))
}

// debugHandler logs debug messages as informational ones when kairos.debug is given.
type debugHandler struct {
	slog.Handler
	on bool
}

func (h debugHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.on && l == slog.LevelDebug || h.Handler.Enabled(ctx, l)
}
