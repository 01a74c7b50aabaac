package cmd

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-media/internal/fat"
	"github.com/kairos-io/toolkit/kairos-media/internal/medium"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what a medium boots, and what is on it",
		ArgsUsage: "FILE",
		Flags:     []cli.Flag{cmdline.JSONFlag()},
		Action:    inspect,
	}
}

// inspected is the answer of inspect under --json.
type inspected struct {
	File           string      `json:"file"`
	Size           int64       `json:"size"`
	System         string      `json:"system"`
	Reference      string      `json:"reference"`
	ManifestDigest string      `json:"manifest_digest,omitempty"`
	ImageDigest    string      `json:"image_digest"`
	Architecture   string      `json:"architecture"`
	Created        time.Time   `json:"created"`
	Firmware       []string    `json:"firmware"`
	Options        string      `json:"options"`
	Kargs          string      `json:"kargs"` // added by edit
	Configs        []string    `json:"configs"`
	Partitions     []partition `json:"partitions"`
	Digest         string      `json:"digest,omitempty"` // as the manifest beside it says; "" without one
}

type partition struct {
	Label string `json:"label"`
	UUID  string `json:"uuid"`
	Start int64  `json:"start"` // bytes
	Size  int64  `json:"size"`  // bytes
}

// open opens the medium that an argument names.
func open(c *cli.Context, file string, flags int) (*medium.Medium, error) {
	if err := needs(fat.Programs...); err != nil {
		return nil, err
	}
	m, err := medium.Open(c.Context, run.Runner{}, file, flags)
	if errors.Is(err, medium.ErrNoMedium) {
		err = exit.Hint(err, "kairos-media build makes one")
	}
	return m, err
}

func inspect(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "FILE")
	if err != nil {
		return err
	}
	m, err := open(c, args[0], os.O_RDONLY)
	if err != nil {
		return err
	}
	defer m.Close()
	in := inspected{
		File: args[0], Size: m.Size, System: m.Entry.Title, Reference: m.Record.Reference, ManifestDigest: m.Record.ManifestDigest,
		ImageDigest: m.Record.ImageDigest, Architecture: m.Record.Architecture, Created: m.Record.Created, Firmware: m.Firmware,
		Options: m.Entry.Options, Kargs: m.Kargs(), Configs: append([]string{}, m.Configs...),
	}
	for _, p := range m.Partitions {
		in.Partitions = append(in.Partitions, partition{p.Label, p.UUID, p.Start, p.Size})
	}
	if manifest, err := medium.ReadManifest(args[0]); err == nil {
		in.Digest = manifest.Digest
	} else if !errors.Is(err, medium.ErrNoManifest) {
		return err
	}
	return result(c, in, func() {
		line(c, "system", "%s", in.System)
		line(c, "image", "%s", in.Reference)
		if in.ManifestDigest != "" {
			line(c, "manifest", "%s", in.ManifestDigest)
		}
		line(c, "image digest", "%s", in.ImageDigest)
		line(c, "created", "%s", terminal.Time(in.Created))
		line(c, "boots by", "%s on %s", strings.Join(in.Firmware, " and "), in.Architecture)
		line(c, "arguments", "%s", in.Options)
		if len(in.Configs) > 0 {
			line(c, "configs", "%s", strings.Join(in.Configs, ", "))
		}
		if in.Digest != "" {
			line(c, "digest", "%s (in the manifest)", in.Digest)
		}
		for _, p := range in.Partitions {
			line(c, p.Label, "%10s at %s", terminal.Bytes(p.Size), terminal.Bytes(p.Start))
		}
	})
}

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read everything on a medium, and compare it with its digests",
		ArgsUsage: "FILE",
		Flags:     []cli.Flag{cmdline.JSONFlag(), cmdline.QuietFlag()},
		Action:    verify,
	}
}

func verify(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "FILE")
	if err != nil {
		return err
	}
	m, err := open(c, args[0], os.O_RDONLY)
	if err != nil {
		return err
	}
	defer m.Close()
	v, err := m.Verify(c.Context)
	if err != nil {
		return fmt.Errorf("verify %s: %w", args[0], err)
	}
	err = result(c, v, func() {
		for _, d := range v.Damage {
			terminal.Fprintf(c.App.Writer, "damaged: %s\n", d)
		}
		if len(v.Damage) > 0 {
			return
		}
		terminal.Fprintf(c.App.Writer, "verified %s: %d objects with %s, %d boot files", args[0], v.Objects, terminal.Bytes(v.Bytes), v.BootFiles)
		if v.Manifest {
			terminal.Fprintf(c.App.Writer, ", and the manifest\n")
		} else {
			terminal.Fprintf(c.App.Writer, "; no manifest is beside it, so boot code, configs and partition table are not verified\n")
		}
	})
	if err != nil || len(v.Damage) == 0 {
		return err
	}
	return exit.Hint(fmt.Errorf("%s is damaged: %s", args[0], v.Damage[0]), "make it again with kairos-media build")
}
