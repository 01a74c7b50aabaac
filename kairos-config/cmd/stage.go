package cmd

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/staging"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func removeFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "remove", Usage: "leave out the config `NAME` in /oem; repeatable"}
}

func stageCommand() *cli.Command {
	return &cli.Command{
		Name: "stage", Usage: "try configs at the next boot, and fall back if it fails", ArgsUsage: "[FILE...]",
		Flags:  []cli.Flag{removeFlag(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()},
		Action: stageConfigs,
	}
}

func stageConfigs(c *cli.Context) error {
	if !c.Args().Present() && !c.IsSet("remove") {
		return exit.Hint(exit.Usagef("missing argument FILE"), "kairos-config apply applies the staged config without a reboot")
	}
	change, err := readChange(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return showDiff(c, change)
	}
	node, close, err := openNode(c)
	if err != nil {
		return err
	}
	defer close()
	g, err := node.Stage(c.Context, change)
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, staged{g.ID, g})
	}
	_, err = terminal.Fprintf(c.App.Writer, "staged generation %s: boots next, and falls back to the running config if it fails\n", g.ID)
	return err
}

// readChange reads and validates the files that the command names. It prints the
// problems; its error has no details.
func readChange(c *cli.Context) (staging.Change, error) {
	if _, err := cmdline.Arguments(c, "[FILE...]"); err != nil {
		return staging.Change{}, err
	}
	change := staging.Change{Put: map[string][]byte{}, Remove: c.StringSlice("remove")}
	var problems diag.List
	skipped := 0
	for _, file := range c.Args().Slice() {
		name := filepath.Base(file)
		if err := generation.CheckName(name); err != nil {
			return change, exit.WithCode(err, exit.Usage)
		}
		if _, twice := change.Put[name]; twice {
			return change, exit.Usagef("two files have the name %s", name)
		}
		data, err := bounded.File(file, source.MaxSize)
		if err != nil {
			return change, err
		}
		var one source.Collection
		one.Add(file, data)
		problems = append(problems, one.Problems...)
		for _, doc := range one.Documents {
			problems = append(problems, schema.Check(doc.Root)...)
		}
		skipped += one.Skipped
		change.Put[name] = data
	}
	for _, name := range change.Remove {
		if err := generation.CheckName(name); err != nil {
			return change, exit.WithCode(err, exit.Usage)
		}
	}
	warn(c, problems)
	if problems.Failed() || skipped > 0 {
		return change, fmt.Errorf("the config is not valid: nothing was staged")
	}
	return change, nil
}

// openNode opens the running node for staging. The caller calls close.
func openNode(c *cli.Context) (node *staging.Node, close func(), err error) {
	booted, err := deployment.ReadBooted(deployment.BootedPath)
	if err != nil {
		return nil, nil, err
	}
	root, err := rootfs.Open("/")
	if err != nil {
		return nil, nil, err
	}
	disk, closeDisk, err := generation.OpenDisk(generation.OEM)
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	node = &staging.Node{Root: root, Disk: disk, Upgrade: staging.Command{}, Booted: booted, Now: time.Now, Log: logger(c)}
	return node, func() { _ = closeDisk(); root.Close() }, nil
}

func discardCommand() *cli.Command {
	return &cli.Command{
		Name: "discard", Usage: "discard the staged config: the running one boots next",
		Flags: []cli.Flag{cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			return withNode(c, "discard", "discarded generation %s: the running config boots next\n", func(n *staging.Node) (string, error) {
				return n.Discard(c.Context)
			})
		},
	}
}

func rollbackCommand() *cli.Command {
	return &cli.Command{
		Name: "rollback", Usage: "try an older generation at the next boot, by default the previous one", ArgsUsage: "[GENERATION]",
		Flags: []cli.Flag{cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c, "[GENERATION]"); err != nil {
				return err
			}
			to := c.Args().First()
			if to != "" && to != staging.Plain {
				if err := generation.CheckID(to); err != nil {
					return exit.WithCode(err, exit.Usage)
				}
			}
			return withNode(c, "roll back", "staged generation %s: boots next\n", func(n *staging.Node) (string, error) {
				return n.Rollback(c.Context, to)
			})
		},
	}
}

// staged is the object that stage --json prints, changed that of discard and rollback.
type staged struct {
	ID string `json:"id"`
	*generation.Generation
}

type changed struct {
	ID string `json:"id"`
}

// withNode calls a function that changes generations, and prints the result.
func withNode(c *cli.Context, what, done string, do func(*staging.Node) (string, error)) error {
	node, close, err := openNode(c)
	if err != nil {
		return err
	}
	defer close()
	id, err := do(node)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, changed{id})
	}
	if id == "" {
		id = staging.Plain
	}
	_, err = terminal.Fprintf(c.App.Writer, done, id)
	return err
}
