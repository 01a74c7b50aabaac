package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/nodeconfig"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/urfave/cli/v2"
)

// maxTitle is how long a title of the boot menu may be, in bytes.
const maxTitle = 200

// asked is what the node's config says of an upgrade: the key "upgrade", in the
// words of Kairos.
type asked struct {
	Source           string
	Title            string // of the boot entries
	Force            bool
	Insecure         bool
	Reboot, Poweroff bool
	hooks            bool // the stages around an upgrade are run
}

// image is an image in the words of Kairos.
type image struct {
	Source string `json:"source"`
	URI    string `json:"uri"` // its old name
}

func (i image) reference() string { return cmp.Or(i.Source, i.URI) }

// document is the whole config, as far as it matters here.
type document struct {
	Install struct {
		Title string `json:"grub-entry-name"`
	} `json:"install"`
	Upgrade struct {
		Entry    string `json:"entry"`
		Recovery bool   `json:"recovery"` // its old name
		System   image  `json:"system"`
		RecSys   image  `json:"recovery-system"`
		Reboot   bool   `json:"reboot"`
		Poweroff bool   `json:"poweroff"`
		Insecure bool   `json:"allow-insecure-registries"`
		Title    string `json:"grub-entry-name"`
		Force    bool   `json:"force"`
	} `json:"upgrade"`
}

// asked reads what is asked for. What the command line says wins; without SOURCE
// the config says all. Of a store that the options name, the config of the
// running node says nothing.
func (m machine) asked(c *cli.Context, args []string) (asked, error) {
	if len(args) > 0 && (c.String("store") != "" || m.root != "/" || c.String("origin") != "stage") {
		return asked{Source: args[0]}, nil
	}
	data, err := nodeconfig.Get(c.Context, run.Runner{}, nil, ".")
	var doc document
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &doc)
	}
	if len(args) > 0 {
		// A config that can't be read must not keep a node from what repairs it.
		return asked{Source: args[0], Title: cmp.Or(doc.Upgrade.Title, doc.Install.Title), hooks: true}, nil
	}
	if err != nil {
		return asked{}, fmt.Errorf("read the node's config: %w", err)
	}
	u := doc.Upgrade
	if u.Reboot && u.Poweroff {
		return asked{}, fmt.Errorf("upgrade.reboot and upgrade.poweroff: only one of them can be done")
	}
	a := asked{
		Source: u.System.reference(), Title: cmp.Or(u.Title, doc.Install.Title), Force: u.Force, Insecure: u.Insecure,
		Reboot: u.Reboot, Poweroff: u.Poweroff, hooks: true,
	}
	if u.Recovery || u.Entry == "recovery" || c.Bool("recovery") {
		a.Source = cmp.Or(u.RecSys.reference(), a.Source)
		if err := c.Set("recovery", "true"); err != nil {
			return asked{}, err
		}
	}
	if a.Insecure {
		if err := c.Set("insecure", "true"); err != nil {
			return asked{}, err
		}
	}
	if a.Source == "" {
		return asked{}, exit.Hint(exit.Usagef("missing argument SOURCE"),
			"name an image, or give the node's config an upgrade.system.source")
	}
	return a, nil
}

// hook runs a stage of the node's configs.
func (a asked) hook(ctx context.Context, stage string) error {
	if !a.hooks || !run.Has(nodeconfig.Program) {
		return nil
	}
	if _, err := (run.Runner{}).Output(ctx, nodeconfig.Program, "run-stage", stage); err != nil {
		return fmt.Errorf("run the stage %s: %w", stage, err)
	}
	return nil
}

// leave ends this boot otherwise than by a reboot.
func (m machine) leave(ctx context.Context, how string) error {
	_, err := run.Runner{}.Output(ctx, "systemctl", "--check-inhibitors=yes", "--no-ask-password", how)
	return err
}
