package cmd

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func digestCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "digest",
		Usage:     "print the image digest of a source, without root and without a store",
		ArgsUsage: "SOURCE",
		Flags:     append(sourceFlags(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "SOURCE")
			if err != nil {
				return err
			}
			if err := m.confine(args, nil); err != nil {
				return err
			}
			bar := progress.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
			d, err := deploy.Digest(c.Context, args[0], m.sourceOptions(c), bar)
			bar.Close()
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return cmdline.PrintJSON(c, struct {
					Source      string `json:"source"`
					ImageDigest string `json:"image_digest"`
				}{args[0], d})
			}
			_, err = terminal.Fprintln(c.App.Writer, d)
			return err
		},
	}
}

func inspectCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what an image is and how much space it needs, without a store",
		ArgsUsage: "SOURCE",
		Flags:     append(sourceFlags(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "SOURCE")
			if err != nil {
				return err
			}
			if err := m.confine(args, nil); err != nil {
				return err
			}
			in, err := deploy.Inspect(c.Context, args[0], m.sourceOptions(c))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return cmdline.PrintJSON(c, in)
			}
			printInspected(c, in)
			return nil
		},
	}
}

func printInspected(c *cli.Context, in *deploy.Inspected) {
	line := func(name, value string) {
		if value != "" {
			terminal.Fprintf(c.App.Writer, "%-14s %s\n", name, value)
		}
	}
	atMost := "about "
	if in.Exact {
		atMost = ""
	}
	line("image", in.Reference)
	line("manifest", in.ManifestDigest)
	line("image digest", in.ImageDigest)
	line("system", in.OS)
	line("version", in.Version)
	line("kernel", in.Kernel)
	line("architecture", in.Architecture)
	if in.BytesFetch > 0 {
		line("to fetch", fmt.Sprintf("%s in %d layers", terminal.Bytes(in.BytesFetch), len(in.Layers)))
	}
	line("store needs", atMost+terminal.Bytes(in.BytesStore))
	if in.BytesBoot > 0 {
		line("ESP needs", terminal.Bytes(in.BytesBoot))
	}
}
