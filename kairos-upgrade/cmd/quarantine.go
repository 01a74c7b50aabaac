package cmd

import (
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func quarantineCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:  "quarantine",
		Usage: "manage the quarantine: images that are not staged again",
		Subcommands: []*cli.Command{
			{
				Name:      "add",
				Usage:     "quarantine a manifest digest",
				ArgsUsage: "DIGEST",
				Flags: append(storeFlags(),
					&cli.StringFlag{Name: "reason", Usage: "the reason, as `TEXT`"},
					&cli.StringFlag{Name: "deployment", Usage: "`ID` of the deployment that failed"},
					&cli.BoolFlag{Name: "no-verdict", Usage: "no boot of the image got a verdict: it is tried once more before it is refused"},
					cmdline.WaitFlag(), cmdline.QuietFlag()),
				Action: func(c *cli.Context) error { return quarantineAdd(c, m) },
			},
			{
				Name:      "remove",
				Usage:     "remove a manifest digest from quarantine",
				ArgsUsage: "DIGEST",
				Flags:     append(storeFlags(), cmdline.WaitFlag(), cmdline.QuietFlag()),
				Action:    func(c *cli.Context) error { return quarantineRemove(c, m) },
			},
			{
				Name:   "list",
				Usage:  "list the quarantined images, with reasons",
				Flags:  append(storeFlags(), cmdline.JSONFlag(), cmdline.QuietFlag()),
				Action: func(c *cli.Context) error { return quarantineList(c, m) },
			},
		},
	}
}

func quarantineAdd(c *cli.Context, m machine) error {
	args, err := cmdline.Arguments(c, "DIGEST")
	if err != nil {
		return err
	}
	if _, err := deployment.ParseDigest(args[0]); err != nil {
		return exit.Usagef("%w", err)
	}
	if c.String("reason") == "" {
		return exit.Usagef("option --reason is missing")
	}
	return m.with(c, Change("quarantine").on(args[0]), func(n *deploy.Node) error { return quarantineOn(c, n, args[0]) })
}

func quarantineOn(c *cli.Context, n *deploy.Node, digest string) error {
	q := deployment.Quarantine{
		ManifestDigest: digest,
		Deployment:     c.String("deployment"),
		Cause:          deployment.Failed,
		Reason:         c.String("reason"),
		Time:           time.Now().UTC().Truncate(time.Second),
	}
	if c.Bool("no-verdict") {
		q.Cause = deployment.NoVerdict
	}
	have, err := n.Inventory()
	if err != nil {
		return err
	}
	for _, d := range have.Deployments { // newest first
		if d.ID == q.Deployment || q.Deployment == "" && (d.ManifestDigest == digest || d.ImageDigest == digest) {
			q.Deployment, q.ImageDigest, q.Reference = d.ID, d.ImageDigest, d.Reference
			break
		}
	}
	added, err := n.Store.PutQuarantine(q)
	if err != nil {
		return fmt.Errorf("quarantine %s: %w", digest, err)
	}
	if !added {
		return exit.WithCode(fmt.Errorf("%s is in quarantine already", digest), exit.Nothing)
	}
	return nil
}

func quarantineRemove(c *cli.Context, m machine) error {
	args, err := cmdline.Arguments(c, "DIGEST")
	if err != nil {
		return err
	}
	if _, err := deployment.ParseDigest(args[0]); err != nil {
		return exit.Usagef("%w", err)
	}
	return m.with(c, Change("quarantine").on(args[0]), func(n *deploy.Node) error {
		removed, err := n.Store.RemoveQuarantine(args[0])
		if err != nil {
			return fmt.Errorf("remove quarantine of %s: %w", args[0], err)
		}
		if !removed {
			return exit.WithCode(fmt.Errorf("%s is not in quarantine", args[0]), exit.Nothing)
		}
		return nil
	})
}

func quarantineList(c *cli.Context, m machine) error {
	if _, err := cmdline.Arguments(c); err != nil {
		return err
	}
	n, close, err := m.open(c)
	if err != nil {
		return err
	}
	defer close()
	list, err := deployment.QuarantineAll(n.Store.Root())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if list == nil {
			list = []deployment.Quarantine{}
		}
		return cmdline.PrintJSON(c, struct {
			Quarantined []deployment.Quarantine `json:"quarantined"`
		}{list})
	}
	for _, q := range list {
		terminal.Fprintf(c.App.Writer, "%s  %s  %s  %s\n", q.ManifestDigest, terminal.Time(q.Time), q.Deployment, q.Reason)
	}
	return nil
}
