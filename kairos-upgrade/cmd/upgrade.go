package cmd

import (
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

// applyFlag is the --apply option of commands that change what boots next.
func applyFlag() cli.Flag {
	return &cli.BoolFlag{Name: "apply", Usage: "reboot when done, unless an inhibitor forbids it"}
}

func upgradeCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "upgrade",
		Usage: "stage the newest image of the reference that the node follows",
		Flags: append(append(storeFlags(), sourceFlags()...),
			&cli.BoolFlag{Name: "check", Usage: "only show whether there is an upgrade"},
			applyFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			return upgrade(c, m)
		},
	}
}

func upgrade(c *cli.Context, m machine) error {
	if c.Bool("check") && c.Bool("apply") {
		return exit.Usagef("--check and --apply exclude each other")
	}
	if err := m.mayApply(c); err != nil {
		return err
	}
	f, err := m.find(c, "", true)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("check"):
		return printFound(c, f)
	case f.Staged != "" && !c.Bool("apply"):
		err := exit.Reason(fmt.Errorf("nothing to do: %s is staged as %s and boots next", f.Reference, f.Staged), "staged")
		return exit.Hint(exit.WithCode(err, exit.Nothing), "reboot, or kairos-upgrade upgrade --apply")
	case f.Staged != "":
		if err := printFound(c, f); err != nil {
			return err
		}
		return m.reboot(c.Context)
	}
	a := asked{Source: f.Reference, Reboot: c.Bool("apply")}
	if m.root == "/" {
		hooks := hooksOfNode(c.Context)
		a.hooks, a.stages = hooks.hooks, hooks.stages
	}
	req := m.request(c, a)
	req.ManifestDigest, req.Options.InsecureRegistry = f.ManifestDigest, f.InsecureRegistry
	return m.stage(c, a, req)
}

func switchCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "switch",
		Usage:     "stage another image, and follow it from then on",
		ArgsUsage: "REFERENCE",
		Flags: append(append(storeFlags(), sourceFlags()...),
			&cli.BoolFlag{Name: "force", Usage: "stage an image that failed before, or that is deployed already"},
			applyFlag(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error {
			args, err := cmdline.Arguments(c, "REFERENCE")
			if err != nil {
				return err
			}
			if err := m.followable(args[0]); err != nil {
				return err
			}
			return stage(c, m)
		},
	}
}

// followable refuses what can't be followed, or what the settings would not
// follow.
func (m machine) followable(reference string) error {
	repository, ok := source.Repository(reference)
	switch {
	case !ok:
		return exit.Hint(exit.Usagef("%s: no image in a registry, which could be followed", reference), "kairos-upgrade stage takes it once")
	case strings.Contains(reference, "@"):
		return exit.Hint(exit.Usagef("%s: a digest never has an upgrade", reference), "name a tag; kairos-upgrade stage takes a digest")
	}
	config, err := automation.Load(m.root)
	if err != nil {
		return err
	}
	if follows, _ := source.Repository(config.Reference); config.Reference != "" && follows != repository {
		err := exit.Reason(fmt.Errorf("upgrade.conf has Reference=%s, which the node would still follow", config.Reference), "reference_set")
		return exit.Hint(exit.WithCode(err, exit.Refused), "change Reference= in /etc/kairos/upgrade.conf, or take it out")
	}
	return nil
}

// mayApply refuses --apply where a reboot would not boot what was staged.
func (m machine) mayApply(c *cli.Context) error {
	if !c.Bool("apply") {
		return nil
	}
	if c.String("store") != "" || c.String("store-label") != "" || c.Bool("recovery") || c.Bool("live") || c.Bool("dry-run") {
		return exit.Usagef("--apply goes with neither another store nor a dry run")
	}
	_, err := deployment.ReadBooted(m.booted)
	return err
}
