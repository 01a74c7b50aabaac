package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

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
	hooks            bool // the stages around an upgrade are run, of those that there are:
	stages           []string
}

// image is an image in the words of Kairos.
type image struct {
	Source string `json:"source"`
	URI    string `json:"uri"` // its old name
}

func (i image) reference() string { return cmp.Or(i.Source, i.URI) }

// document is the whole config, as far as it matters here.
type document struct {
	Stages  map[string]json.RawMessage `json:"stages"`
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
	if len(args) > 0 && (c.String("store") != "" || m.root != "/" || cmp.Or(c.String("origin"), "stage") != "stage") {
		return asked{Source: args[0]}, nil
	}
	data, err := nodeconfig.Get(c.Context, run.Runner{}, nil, ".")
	var doc document
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &doc)
	}
	if len(args) > 0 {
		// A config that can't be read must not keep a node from what repairs it.
		return asked{
			Source: args[0], Title: cmp.Or(doc.Upgrade.Title, doc.Install.Title), hooks: true, stages: doc.stages(),
		}, nil
	}
	if err != nil {
		return asked{}, fmt.Errorf("read the node's config: %w", err)
	}
	u := doc.Upgrade
	a := asked{
		Source: u.System.reference(), Title: cmp.Or(u.Title, doc.Install.Title), Force: u.Force, Insecure: u.Insecure,
		Reboot: u.Reboot, Poweroff: u.Poweroff && !u.Reboot, hooks: true, stages: doc.stages(),
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
			"name an image, or set upgrade.system.source in the node's config")
	}
	return a, nil
}

// stages returns the names of the stages that the configs have steps for.
func (d document) stages() []string { return slices.Collect(maps.Keys(d.Stages)) }

// hooksOfNode are the stages around an upgrade that the node's configs have. A
// config that can't be read has none.
func hooksOfNode(ctx context.Context) asked {
	var doc document
	data, err := nodeconfig.Get(ctx, run.Runner{}, nil, ".")
	if err != nil || json.Unmarshal(data, &doc) != nil {
		return asked{}
	}
	return asked{hooks: true, stages: doc.stages()}
}

// hook runs a stage of the node's configs, if they have steps for it or for
// what comes before or after it. Their commands are the owner's and may do
// anything: they run in a unit of their own, and not in the sandbox of the one
// that stages.
func (a asked) hook(ctx context.Context, stage string) error {
	if !a.has(stage) {
		return nil
	}
	command := []string{nodeconfig.Program, "run-stage", stage}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		command = []string{"systemctl", "restart", "--no-ask-password", "kairos-config@" + stage + ".service"}
	}
	if _, err := (run.Runner{}).Output(ctx, command...); err != nil {
		return fmt.Errorf("run the stage %s: %w", stage, err)
	}
	return nil
}

// has reports whether hooks run, and the node's configs have steps for a stage:
// "after-upgrade" or "after-upgrade.before".
func (a asked) has(stage string) bool {
	return a.hooks && slices.ContainsFunc(a.stages, func(name string) bool {
		name, _, _ = strings.Cut(name, ".")
		return name == stage
	})
}

// leave ends this boot otherwise than by a reboot.
func (m machine) leave(ctx context.Context, how string) error {
	_, err := run.Runner{}.Output(ctx, "systemctl", "--check-inhibitors=yes", "--no-ask-password", how)
	return err
}
