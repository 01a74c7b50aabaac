// Package cmd implements the command line of kairos-config, one file per command.
package cmd

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/urfave/cli/v2"
)

// App returns the application.
func App() *cli.App {
	app := cmdline.New("kairos-config", "collect, show and apply the node's cloud-config")
	cmdline.Completes(app, completions())
	app.Commands = masked([]*cli.Command{
		showCommand(), getCommand(), validateCommand(), schemaCommand(), runStageCommand(), statusCommand(),
		stageCommand(), diffCommand(), applyCommand(), discardCommand(), rollbackCommand(),
	})
	return app
}

func rootFlag() cli.Flag {
	return &cli.StringFlag{Name: "root", Value: "/", Usage: "read and apply beneath `DIR`"}
}

func configFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "config", Usage: "read `FILE` too, after the files of the node; repeatable"}
}

func offlineFlag() cli.Flag {
	return &cli.BoolFlag{Name: "offline", Usage: "fetch nothing; use the last good copy for config_url"}
}

// fetchRemotes fetches the remote configs that the configs name; with again, even those
// that were fetched in this boot.
func fetchRemotes(c *cli.Context, root *rootfs.Root, collection *source.Collection, again bool) {
	warn(c, (&source.Fetcher{Root: root, Templates: renderer(root)}).Fetch(c.Context, collection.Remotes, again))
}

// logger returns a logger to the application's stderr that masks secrets.
func logger(c *cli.Context) *slog.Logger {
	return mask.Logger(logline.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet")))
}

// masked masks secrets in the errors of commands.
func masked(commands []*cli.Command) []*cli.Command {
	for _, command := range commands {
		if action := command.Action; action != nil {
			command.Action = func(c *cli.Context) error {
				if err := action(c); err != nil {
					return mask.Error{Err: err}
				}
				return nil
			}
		}
	}
	return commands
}

// collect reads the configs beneath a root and the files that the caller names. A named
// file that can't be used is an error; the node's own configs are best effort.
func collect(c *cli.Context, root *rootfs.Root) (*source.Collection, error) {
	named := c.StringSlice("config")
	collection := source.Collect(root, named...)
	for _, name := range named {
		if !slices.ContainsFunc(collection.Documents, func(d source.Document) bool { return d.Source == name && !d.Broken }) {
			warn(c, collection.Problems)
			return nil, fmt.Errorf("config %s can't be used", name)
		}
	}
	return collection, nil
}

// merged collects and merges the configs, and prints problems to stderr. complete is
// false when a config could not be read or fetched.
func merged(c *cli.Context) (config *tree.Node, complete bool, err error) {
	root, err := rootfs.Open(c.String("root"))
	if err != nil {
		return nil, false, err
	}
	defer root.Close()
	collection, err := collect(c, root)
	if err != nil {
		return nil, false, err
	}
	if len(collection.Remotes) > 0 && !c.Bool("offline") && !rootfs.InInitrd() {
		fetchRemotes(c, root, collection, false)
		if collection, err = collect(c, root); err != nil {
			return nil, false, err
		}
	}
	config, problems := collection.Merged()
	warn(c, append(collection.Problems, problems...))
	return config, !collection.Problems.Failed() && len(collection.Missing) == 0, nil
}

func warn(c *cli.Context, problems diag.List) {
	log := logger(c)
	for _, p := range problems {
		log.Log(c.Context, p.Level(), p.Text())
	}
}
