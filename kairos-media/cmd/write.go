package cmd

import (
	"errors"
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/kairos-media/internal/device"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func writeCommand() *cli.Command {
	return &cli.Command{
		Name:      "write",
		Usage:     "write a medium to a USB stick or a disk, and read it back",
		ArgsUsage: "FILE DEVICE",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "any-disk", Usage: "write to a disk that is not removable, too"},
			cmdline.DryRunFlag(), cmdline.YesFlag(), cmdline.JSONFlag(), cmdline.QuietFlag(),
		},
		Action: write,
	}
}

// written is the answer of write under --json.
type written struct {
	File    string      `json:"file"`
	Disk    device.Disk `json:"disk"` // as it was before
	Written bool        `json:"written"`
	Digest  string      `json:"digest,omitempty"` // of what was read back
}

func write(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "FILE", "DEVICE")
	if err != nil {
		return err
	}
	m, err := open(c, args[0], os.O_RDONLY)
	if err != nil {
		return err
	}
	defer m.Close()
	system := device.System{Sys: "/sys"}
	d, err := system.Look(args[1])
	if errors.Is(err, device.ErrNoDisk) {
		err = exit.Hint(exit.WithCode(err, exit.Usage), "lsblk lists the disks")
	}
	if err != nil {
		return err
	}
	switch {
	case d.ReadOnly:
		return fmt.Errorf("%s is read-only", d.Path)
	case !d.Removable && !c.Bool("any-disk"):
		return exit.Hint(exit.WithCode(fmt.Errorf("%s is not removable", d.Path), exit.Refused), "--any-disk writes to it nevertheless")
	case d.Size < m.Size:
		return exit.WithCode(fmt.Errorf("%s has %s, the medium needs %s", d.Path, terminal.Bytes(d.Size), terminal.Bytes(m.Size)), exit.NoSpace)
	}
	w := written{File: args[0], Disk: d}
	if !c.Bool("quiet") || c.Bool("dry-run") {
		lost(c, d)
	}
	if c.Bool("dry-run") {
		return result(c, w, func() {})
	}
	if err := cmdline.Confirm(c, "erase everything on "+d.Path+"?"); err != nil {
		return err
	}
	from, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer from.Close()
	report := reporter(c)
	report.Steps = 2
	done := report.Step("write", "write "+d.Path)
	reading := false
	sum, err := device.Write(c.Context, from, m.Size, d.Path, func(f *os.File) error { return system.Still(d, f) }, func(n int64) {
		if n > m.Size && !reading {
			reading = true
			done()
			done = report.Step("read", "read it back")
		}
	})
	done()
	if errors.Is(err, device.ErrOther) {
		err = exit.Hint(err, "the disk is broken, or has less space than it claims: use another one")
	}
	if err != nil {
		return err
	}
	w.Written, w.Digest = true, fmt.Sprintf("sha256:%x", sum)
	return result(c, w, func() { terminal.Fprintf(c.App.Writer, "written to %s: %s\n", d.Path, w.Digest) })
}

// lost shows what is erased.
func lost(c *cli.Context, d device.Disk) {
	model := d.Model
	if model == "" {
		model = "a disk"
	}
	terminal.Fprintf(c.App.ErrWriter, "to be erased: %s, %s of %s\n", d.Path, model, terminal.Bytes(d.Size))
	for _, p := range d.Partitions {
		terminal.Fprintf(c.App.ErrWriter, "  %s %s %s\n", p.Name, terminal.Bytes(p.Size), p.Label)
	}
}
