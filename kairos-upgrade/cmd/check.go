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
		Usage:     "look for an upgrade of the image in upgrade.conf, or of a reference",
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
	f, err := m.find(c, c.Args().First(), false)
	if err != nil {
		return err
	}
	return printFound(c, f)
}

func printFound(c *cli.Context, f found) error {
	if c.Bool("json") {
		return cmdline.PrintJSON(c, f.checked)
	}
	printOffer(c.App.Writer, f.Offer, f.Staged)
	return nil
}

// found is an upgrade that the node can stage, with the settings.
type found struct {
	checked
	config automation.Config
}

// find looks for an upgrade: of a reference or, with "", of what is followed. Exit
// status of errors: 3, there is none.
func (m machine) find(c *cli.Context, reference string, byHand bool) (f found, err error) {
	f.config = automation.Read(m.root)
	if f.config.Wrong != nil && reference == "" {
		return f, f.config.Wrong
	}
	n, close, err := m.open(c)
	if err != nil {
		return f, err
	}
	defer close()
	follow := automation.Follower{
		Node: n, Config: f.config, Source: m.sourceOptions(c), Exact: true, ByHand: byHand, Now: m.now(),
	}
	var verdict automation.Verdict
	if reference != "" {
		verdict, err = follow.Judge(c.Context, reference)
	} else {
		verdict, err = follow.Find(c.Context)
	}
	if err != nil {
		return f, err
	}
	offer, takes, reason := verdict.Offer()
	if !takes {
		err := exit.Reason(exit.WithCode(errors.New("no upgrade: "+reason), exit.Nothing), verdict.Code())
		if offer != nil && byHand && verdict.Code() != "up_to_date" {
			err = exit.Hint(err, "kairos-upgrade stage %s stages it nevertheless; an image that failed before needs --force", offer.Reference)
		}
		return f, err
	}
	f.checked = checked{Offer: offer}
	if offer.Deployed != nil {
		have, err := n.Inventory()
		if err != nil {
			return f, err
		}
		if next := have.Roles().Next; next != nil && next.ID == offer.Deployed.ID {
			f.Staged = next.ID
		}
	}
	return f, nil
}
