// Package cmd is the command line of kairos-media: one file per command.
package cmd

import (
	"fmt"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// App returns the program.
func App() *cli.App {
	app := cmdline.New("kairos-media", "make bootable media from images")
	app.Commands = []*cli.Command{
		buildCommand(),
		inspectCommand(),
		verifyCommand(),
		editCommand(),
		writeCommand(),
		serveCommand(),
	}
	return app
}

// packages name where Debian has the programs that are executed.
var packages = map[string]string{
	"kairos-upgrade": "kairos-tools", "kairos-config": "kairos-tools",
	"mkfs.ext4": "e2fsprogs", "debugfs": "e2fsprogs",
	"mkfs.vfat": "dosfstools", "mcopy": "mtools", "mmd": "mtools", "mtype": "mtools", "mdir": "mtools",
	"grub-mkimage": "grub-common",
}

// needs refuses to begin without programs, and names the packages that have them.
func needs(programs ...string) error {
	// Some are where only root looks.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	var missing, from []string
	for _, program := range programs {
		if !run.Has(program) {
			missing = append(missing, program)
			if p := packages[program]; !contains(from, p) {
				from = append(from, p)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	hint := "install " + strings.Join(from, " ")
	if contains(missing, "grub-mkimage") {
		hint += "; --firmware uefi makes a medium without BIOS"
	}
	return exit.Hint(fmt.Errorf("not installed: %s", strings.Join(missing, ", ")), "%s", hint)
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// reporter shows what is done.
func reporter(c *cli.Context) *progress.Reporter {
	return &progress.Reporter{W: c.App.ErrWriter, JSON: c.Bool("json"), Quiet: c.Bool("quiet"), Name: c.App.Name}
}

// result prints what a command has found out: as JSON, or as lines for people.
func result(c *cli.Context, v any, lines func()) error {
	if c.Bool("json") {
		return cmdline.PrintJSON(c, v)
	}
	if !c.Bool("quiet") {
		lines()
	}
	return nil
}

// line prints a name and a value.
func line(c *cli.Context, name, format string, args ...any) {
	terminal.Fprintf(c.App.Writer, "%-14s %s\n", name, fmt.Sprintf(format, args...))
}
