package cmd

import (
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func listReleasesCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "list-releases",
		Usage:     "list the versions in a repository, newest first, and mark those newer than the booted one",
		ArgsUsage: "REPOSITORY",
		Flags: append(append(storeFlags(), sourceFlags()...),
			&cli.BoolFlag{Name: "all", Usage: "list tags that are not versions, too"},
			&cli.BoolFlag{Name: "prerelease", Usage: "list pre-releases, too"},
			&cli.IntFlag{Name: "limit", Usage: "list at most `N`; 0 is all", Value: 20},
			cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error { return listReleases(c, m) },
	}
}

// release is an element of what list-releases --json prints.
type release struct {
	Tag        string `json:"tag"`
	Version    string `json:"version"` // normalised, "" when the tag is none
	Prerelease bool   `json:"prerelease"`
	Newer      bool   `json:"newer"`  // than what runs
	Booted     bool   `json:"booted"` // by what was asked for: a tag may have moved since
	Staged     bool   `json:"staged"`
}

func listReleases(c *cli.Context, m machine) error {
	args, err := cmdline.Arguments(c, "REPOSITORY")
	if err != nil {
		return err
	}
	if c.Int("limit") < 0 {
		return exit.Usagef("--limit %d: must not be negative", c.Int("limit"))
	}
	repository, ok := source.Repository(args[0])
	if !ok {
		return exit.Usagef("%q is not a repository in a registry", args[0])
	}
	tags, err := source.Tags(c.Context, repository, m.sourceOptions(c))
	if err != nil {
		return err
	}
	marks := m.marks(c, repository)
	releases, all := []release{}, len(tags)
	if !c.Bool("all") {
		tags = automation.For(tags, marks.runs, runtime.GOARCH)
	}
	for _, r := range automation.Sorted(tags) {
		if r.Version == nil && !c.Bool("all") || r.Version != nil && r.Version.Prerelease() != "" && !c.Bool("prerelease") {
			continue
		}
		if limit := c.Int("limit"); limit > 0 && len(releases) == limit {
			break
		}
		releases = append(releases, marks.of(r))
	}
	if len(releases) == 0 && all > 0 {
		logline.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet")).
			Warn("no tag is a release for this node; --all and --prerelease list more", "tags", all)
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, struct {
			Repository string    `json:"repository"`
			Releases   []release `json:"releases"`
		}{repository, releases})
	}
	return printReleases(c, releases)
}

// marks say which releases a node knows.
type marks struct {
	booted, staged string // tags
	runs           automation.Release
}

// marks reads them. Without a node nothing is marked: the list is of use
// anywhere.
func (m machine) marks(c *cli.Context, repository string) (k marks) {
	n, close, err := m.open(c)
	if err != nil {
		return k
	}
	defer close()
	have, _ := n.Inventory() // none is no reason not to list
	roles := have.Roles()
	tag := func(d *deploy.Deployment) string {
		if d == nil {
			return ""
		}
		if name, ok := source.Repository(d.Reference); !ok || name != repository {
			return ""
		}
		return source.Tag(d.Reference)
	}
	k.booted, k.staged = tag(roles.Booted), tag(roles.Staged)
	if roles.Booted != nil {
		k.runs = automation.NewRelease(roles.Booted.Version)
	}
	if r := automation.NewRelease(k.booted); r.Version != nil {
		k.runs = r
	}
	return k
}

func (k marks) of(r automation.Release) release {
	out := release{Tag: r.Tag, Booted: r.Tag == k.booted, Staged: r.Tag == k.staged}
	if r.Version != nil {
		out.Version, out.Prerelease = r.Version.String(), r.Version.Prerelease() != ""
		out.Newer = r.Newer(k.runs)
	}
	return out
}

func printReleases(c *cli.Context, releases []release) error {
	table := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	for _, r := range releases {
		mark := " "
		var words []string
		switch {
		case r.Booted:
			mark, words = terminal.Mark("●"), []string{"booted"}
		case r.Staged:
			mark, words = terminal.Mark("→"), []string{"boots next"}
		}
		if r.Newer {
			words = append(words, "newer")
		}
		terminal.Fprintf(table, "%s %s\t%s\n", mark, r.Tag, strings.Join(words, ", "))
	}
	return table.Flush()
}
