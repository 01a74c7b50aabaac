package cmd

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func rollbackCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "go back to an older deployment, by default the newest good one that does not boot next",
		ArgsUsage: "[ID]",
		Flags: append(storeFlags(),
			&cli.BoolFlag{Name: "force", Usage: "go back to a deployment that failed before"},
			applyFlag(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error { return rollback(c, m) },
	}
}

// rolledBack is the object that rollback --json prints.
type rolledBack struct {
	ID        string   `json:"id"`        // of the new deployment, of the old one where staged ones were discarded, "" in a dry run
	From      string   `json:"from"`      // id of the older deployment
	Discarded []string `json:"discarded"` // ids of staged deployments that went instead
	deployedImage
}

type deployedImage struct {
	ImageDigest    string `json:"image_digest"`
	ManifestDigest string `json:"manifest_digest"`
	Reference      string `json:"reference"`
	Version        string `json:"version"`
}

func rollback(c *cli.Context, m machine) error {
	if _, err := cmdline.Arguments(c, "[ID]"); err != nil {
		return err
	}
	if err := m.mayApply(c); err != nil {
		return err
	}
	id, dryRun := c.Args().First(), c.Bool("dry-run")
	err := m.with(c, changeUnless(dryRun, "rollback").on(id), func(n *deploy.Node) error { return rollbackOn(c, n, id, dryRun) })
	if err != nil || !c.Bool("apply") {
		return err
	}
	return m.reboot(c.Context)
}

func rollbackOn(c *cli.Context, n *deploy.Node, id string, dryRun bool) error {
	to, err := rollbackTo(n, id, c.Bool("force"))
	if err != nil {
		return err
	}
	have, err := n.Inventory()
	if err != nil {
		return err
	}
	done := rolledBackTo("", to, []string{})
	for _, d := range deploy.Discards(have.Deployments, to) {
		done.Discarded = append(done.Discarded, d.ID)
	}
	if !dryRun {
		r, discarded, err := n.GoBack(c.Context, to)
		if err != nil {
			return err
		}
		done.ID, done.Discarded = r.ID, discarded
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, done)
	}
	switch {
	case len(done.Discarded) > 0 && dryRun:
		terminal.Fprintf(c.App.Writer, "1. remove %s, not booted yet: %s boots next\n", listOf(done.Discarded), to.ID)
		return nil
	case len(done.Discarded) > 0:
		terminal.Fprintf(c.App.Writer, "discarded %s\n%s: %s\n  %s\n", listOf(done.Discarded), to.ID, deploy.Title(to.Record), bootsNext(n))
		return nil
	case dryRun:
		terminal.Fprintf(c.App.Writer, "1. write the boot files of %s, unless they are there\n2. publish a new boot entry for its image, %s: boots next\n",
			to.ID, deploy.Title(to.Record))
		return nil
	}
	terminal.Fprintf(c.App.Writer, "staged %s: %s, as in %s\n  %s\n", done.ID, deploy.Title(to.Record), to.ID, bootsNext(n))
	return nil
}

// rollbackTo returns the deployment that is gone back to.
func rollbackTo(n *deploy.Node, id string, force bool) (*deploy.Deployment, error) {
	have, err := n.Inventory()
	if err != nil {
		return nil, err
	}
	to, err := deploy.RollbackTarget(have.Deployments, id, force)
	if err != nil {
		return nil, fmt.Errorf("roll back: %w", err)
	}
	return to, nil
}

func rolledBackTo(id string, to *deploy.Deployment, discarded []string) rolledBack {
	return rolledBack{id, to.ID, discarded, deployedImage{to.ImageDigest, to.ManifestDigest, to.Reference, to.Version}}
}
