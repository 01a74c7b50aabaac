package cmd

import (
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/unpack"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func unpackCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "unpack",
		Usage:     "write the files of a container image into a directory",
		ArgsUsage: "IMAGE DIRECTORY",
		Flags: append(sourceFlags(),
			&cli.StringFlag{Name: "platform", Usage: "take the image for `OS/ARCHITECTURE` (default: that of this machine)"},
			&cli.BoolFlag{Name: "force", Usage: "unpack the image even if it is already there"},
			cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error { return unpackImage(c, m) },
	}
}

func unpackImage(c *cli.Context, m machine) error {
	args, err := cmdline.Arguments(c, "IMAGE", "DIRECTORY")
	if err != nil {
		return err
	}
	r := unpack.Request{Source: args[0], Dir: args[1], Force: c.Bool("force"), Options: m.sourceOptions(c)}
	if r.Options.Architecture, err = architectureOf(c.String("platform")); err != nil {
		return err
	}
	if err := m.confine(args[:1], args[1:], ofOwners...); err != nil {
		return err
	}
	bar := progress.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	bar.Phase("fetch "+r.Source, 0)
	r.Progress = bar.Set
	u, err := unpack.Unpack(c.Context, r)
	bar.Close()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, u)
	}
	_, err = terminal.Fprintf(c.App.Writer, "unpacked %s: %d files, %s\n", u.ManifestDigest, u.Files, terminal.Bytes(u.Bytes))
	return err
}

// architectureOf returns the architecture of a platform, as GOARCH has it.
func architectureOf(platform string) (string, error) {
	if platform == "" {
		return "", nil
	}
	os, architecture, ok := strings.Cut(platform, "/")
	if !ok || os != "linux" || architecture == "" || strings.Trim(architecture, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", exit.Usagef("--platform %q: not of the form linux/ARCHITECTURE, such as linux/arm64", platform)
	}
	return architecture, nil
}
