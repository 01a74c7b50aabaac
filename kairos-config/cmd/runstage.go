package cmd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/credential"
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/fetch"
	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/provider"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/spell"
	"github.com/urfave/cli/v2"
)

func runStageCommand() *cli.Command {
	return &cli.Command{
		Name: "run-stage", Usage: "apply the steps that the configs have for a stage", ArgsUsage: "STAGE",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "strict", Usage: "fail if any step fails, as if every config had strict: true"},
			&cli.DurationFlag{Name: "command-timeout", Value: 10 * time.Minute, Usage: "stop a command after `TIME`; 0 sets no limit"},
			&cli.StringFlag{Name: "overlay", Hidden: true, Usage: "the root is an overlay: say what is thrown away with upper in `DIRECTORY`, above lower"},
			cmdline.JSONFlag(), configFlag(), rootFlag(), cmdline.QuietFlag(),
		},
		Action: runStage,
	}
}

func runStage(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "STAGE")
	if err != nil {
		return err
	}
	name := args[0]
	if !validStage(name) {
		return exit.Usagef("%q can't be the name of a stage", name)
	}
	root, err := rootfs.Open(c.String("root"))
	if err != nil {
		return err
	}
	defer root.Close()
	system := &stage.System{
		Root: root, Strict: c.Bool("strict"), Timeout: c.Duration("command-timeout"), Log: logger(c),
		StepLog: stepLogger(c.App.Name, journal.Socket), Get: fetch.Client{}, KeyServers: keyServers(),
	}
	system.Booted = root.Path() == "/"
	system.Node = system.Booted
	if !system.Booted && rootfs.InInitrd() {
		system.Node = true
		detach, err := root.Attach()
		if err != nil {
			return err
		}
		defer func() {
			if err := detach(); err != nil {
				system.Log.Warn(exit.Message(err))
			}
		}()
	}
	collection, err := collect(c, root)
	if err != nil {
		return err
	}
	before := collection
	if len(collection.Remotes) > 0 && (name == "network" || name == "reconcile") {
		fetchRemotes(c, root, collection, true)
		if collection, err = collect(c, root); err != nil {
			return err
		}
	}
	config, _ := collection.Merged()
	system.Env = schema.Environ(config, name)
	plan := stage.NewPlan(collection, name, fill(c.Context, root))
	if name == "network" || len(before.Missing) > len(collection.Missing) {
		plan.Arrived(before, collection)
	}
	if err := verifyGeneration(root); err != nil {
		plan.Damaged = true
		plan.Problems.Errorf(diag.Pos{Source: generation.Dir}, "%v", err)
	}
	if !plan.Has() && !schema.KnownStage(name) {
		// Programs run stages of their own, whether a config has steps for them or
		// not; a slip is nobody's stage.
		if meant := spell.Closest(name, schema.StageNames); meant != "" {
			return exit.Hint(exit.Usagef("unknown stage %q, and no config has steps for it", name), "did you mean %q?", meant)
		}
	}
	if dir := c.String("overlay"); dir != "" {
		if system.Discarded, err = discarded(dir); err != nil {
			return err
		}
	}
	record := system.Run(c.Context, plan)
	if c.Bool("json") {
		if err := cmdline.PrintJSON(c, record); err != nil {
			return err
		}
	}
	switch {
	case c.Context.Err() != nil:
		return c.Context.Err()
	case record.HardFailed:
		err := fmt.Errorf("stage %s failed in a strict config", name)
		if plan.Damaged {
			err = fmt.Errorf("stage %s did not run with the staged configs", name)
		}
		return exit.Hint(err, "kairos-config status shows which step, and why")
	case record.Outcome == stage.Failed:
		system.Log.Warn(fmt.Sprintf("stage %s: some steps failed (strict: true would make the stage fail)", name))
	}
	return nil
}

// fill returns the functions that turn the configs of a node into steps.
func fill(ctx context.Context, root *rootfs.Root) stage.Fill {
	return stage.Fill{
		Credentials: credential.Open(),
		Templates:   renderer(root),
		Provide: func(stage string, merged *tree.Node) ([]source.Document, diag.List) {
			return provider.Steps(ctx, root, stage, merged)
		},
	}
}

// renderer returns a renderer for templates with the facts of the machine.
func renderer(root *rootfs.Root) *template.Renderer {
	return template.New(sync.OnceValue(func() facts.Facts { return facts.Read(root) }))
}

// verifyGeneration verifies the digests of the generation that the kernel command line
// names: a boot with other configs must not be found good.
func verifyGeneration(root *rootfs.Root) error {
	booted, err := generation.Booted(root)
	if err != nil || booted == nil {
		return err
	}
	return booted.Verify(root)
}

// keyServers are replacements for the addresses of github: and gitlab:, for sites with
// a server of their own.
func keyServers() map[string]string {
	return map[string]string{"github": os.Getenv("KAIROS_GITHUB_URL"), "gitlab": os.Getenv("KAIROS_GITLAB_URL")}
}

// validStage returns an error for a name that can't be the name of a record's file.
func validStage(name string) bool {
	return name != "" && len(name) < 100 && name[0] != '.' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}
