package cmd

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/kairos-media/internal/boot"
	"github.com/kairos-io/toolkit/kairos-media/internal/fat"
	"github.com/kairos-io/toolkit/kairos-media/internal/medium"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kernelargs"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func buildCommand() *cli.Command {
	return &cli.Command{
		Name:      "build",
		Usage:     "make a medium that boots an image as a live system",
		ArgsUsage: "IMAGE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"o"}, Usage: "write the medium to `FILE`, and what is in it to FILE.manifest.json"},
			&cli.StringSliceFlag{Name: "config", Usage: "add the cloud-config `FILE`; repeatable"},
			&cli.BoolFlag{Name: "install", Usage: "let the medium install the image without being asked: it erases a disk"},
			&cli.StringSliceFlag{Name: "karg", Usage: "add the kernel `ARGUMENT`; repeatable"},
			&cli.StringFlag{Name: "firmware", Usage: "boot by uefi, bios, or uefi,bios, and fail without boot code for `FIRMWARE` (default: what the image has boot code for)"},
			&cli.StringFlag{Name: "boot-tree", Usage: "take boot code from the root file system `DIRECTORY` instead of the image"},
			&cli.StringFlag{Name: "authfile", Usage: "`FILE` with credentials for registries"},
			&cli.BoolFlag{Name: "insecure", Usage: "accept a registry without TLS or with an unknown certificate"},
			cmdline.DryRunFlag(), cmdline.JSONFlag(), cmdline.QuietFlag(),
		},
		Action: build,
	}
}

func build(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "IMAGE")
	if err != nil {
		return err
	}
	r := medium.Request{
		Image: args[0], File: c.String("file"), BootTree: c.String("boot-tree"), Kargs: c.StringSlice("karg"),
		AuthFile: c.String("authfile"), Insecure: c.Bool("insecure"),
	}
	if r.File == "" {
		return exit.Usagef("missing option --file")
	}
	if r.Firmware, err = firmware(c.String("firmware")); err != nil {
		return err
	}
	if err := checkKargs(r.Kargs); err != nil {
		return err
	}
	if err := needs(r.Programs()...); err != nil {
		return err
	}
	if r.Configs, err = configs(c, c.StringSlice("config"), c.Bool("install")); err != nil {
		return err
	}
	report := reporter(c)
	report.Steps = 5
	b := medium.Builder{Runner: run.Runner{}, Step: report.Step, Warn: report.Warn}
	if c.Bool("dry-run") {
		plan, err := b.Plan(c.Context, r)
		if err != nil {
			return err
		}
		return result(c, plan, func() {
			for i, step := range plan.Steps {
				terminal.Fprintf(c.App.Writer, "%d. %s\n", i+1, step)
			}
			terminal.Fprintf(c.App.Writer, "about %s are needed, %s are free\n", terminal.Bytes(plan.Need), terminal.Bytes(plan.Free))
		})
	}
	m, err := b.Build(c.Context, r)
	if errors.Is(err, boot.ErrNone) && exit.HintOf(err) == "" {
		err = exit.Hint(err, "--boot-tree names a tree that has boot code")
	}
	if err != nil {
		return fmt.Errorf("build %s: %w", r.File, err)
	}
	return result(c, m, func() {
		terminal.Fprintf(c.App.Writer, "%s: %s, boots %s by %s\n", r.File, terminal.Bytes(m.Size), m.System, strings.Join(m.Firmware, " and "))
		terminal.Fprintf(c.App.Writer, "%s\n", m.Digest)
	})
}

func firmware(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for _, f := range list {
		if f != medium.UEFI && f != medium.BIOS {
			return nil, exit.Usagef("--firmware %q: uefi, bios, or uefi,bios", text)
		}
	}
	return list, nil
}

func checkKargs(args []string) error {
	for _, arg := range args {
		if err := kernelargs.Check(arg); err != nil {
			return exit.Usagef("--karg %q: %w", arg, err)
		}
	}
	return nil
}

// maxConfig bounds a cloud-config, in bytes: the partition has room for some.
const maxConfig = 4 << 20

// installConfig makes a live system install without being asked.
const installConfig = "#cloud-config\ninstall:\n  auto: true\n"

// configs reads cloud-configs, and refuses those with mistakes: on the medium they
// would be found when somebody waits for them to work.
func configs(c *cli.Context, files []string, install bool) (map[string][]byte, error) {
	all := map[string][]byte{}
	if install {
		all["00_install.yaml"] = []byte(installConfig)
	}
	if len(files) == 0 {
		return all, nil
	}
	if err := needs("kairos-config"); err != nil {
		return nil, err
	}
	for _, file := range files {
		name := filepath.Base(file)
		if err := fat.CheckName(name); err != nil {
			return nil, exit.Usagef("--config: %w", err)
		}
		if ext := filepath.Ext(name); ext != ".yaml" && ext != ".yml" {
			return nil, exit.Usagef("--config %s: the name must end in .yaml or .yml, or the live system does not read it", file)
		}
		if _, twice := all[name]; twice {
			return nil, exit.Usagef("--config: two files are called %s", name)
		}
		data, err := bounded.File(file, maxConfig)
		if err != nil {
			return nil, fmt.Errorf("read config: %w", err)
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		if _, err := (run.Runner{}).Output(c.Context, "kairos-config", "validate", path); err != nil {
			return nil, exit.Hint(fmt.Errorf("config %s: %w", file, err), "kairos-config validate %s shows all mistakes", file)
		}
		all[name] = data
	}
	return all, nil
}
