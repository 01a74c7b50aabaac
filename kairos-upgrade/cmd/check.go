package cmd

import (
	"errors"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

func checkCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "tell whether there is an update: of what upgrade.conf follows, or of a reference",
		ArgsUsage: "[REFERENCE]",
		Flags:     append(append(storeFlags(), sourceFlags()...), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action:    func(c *cli.Context) error { return check(c, m) },
	}
}

// checked is the object that check --json prints.
type checked struct {
	*deploy.Offer
	Staged string `json:"staged"` // id of its deployment if that boots next, ""
}

func check(c *cli.Context, m machine) error {
	if _, err := cmdline.Arguments(c, "[REFERENCE]"); err != nil {
		return err
	}
	config, err := automation.Load(m.root)
	reference := c.Args().First()
	if err != nil && reference == "" {
		return err
	}
	n, close, err := m.open(c)
	if err != nil {
		return err
	}
	defer close()
	f := automation.Follower{Node: n, Config: config, Source: m.sourceOptions(c), Exact: true}
	var verdict automation.Verdict
	if reference != "" {
		verdict, err = f.Judge(c.Context, reference)
	} else {
		verdict, err = f.Find(c.Context)
	}
	if err != nil {
		return err
	}
	offer, takes, reason := verdict.Offer()
	if !takes {
		return exit.WithCode(errors.New("no update: "+reason), exit.Nothing)
	}
	result := checked{Offer: offer}
	if offer.Deployed != nil {
		have, err := n.Inventory()
		if err != nil {
			return err
		}
		if next := have.Roles().Next; next != nil && next.ID == offer.Deployed.ID {
			result.Staged = next.ID
		}
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, result)
	}
	printOffer(c.App.Writer, offer, result.Staged)
	return nil
}
