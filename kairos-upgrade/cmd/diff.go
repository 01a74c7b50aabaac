package cmd

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/automation"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/diff"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func diffCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "show what differs between two deployments or images",
		ArgsUsage: "[ID|SOURCE] [ID|SOURCE]",
		Flags: append(append(storeFlags(), sourceFlags()...),
			&cli.BoolFlag{Name: "files", Usage: "list the files that differ"},
			cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error { return compare(c, m) },
	}
}

func compare(c *cli.Context, m machine) error {
	args, err := cmdline.Arguments(c, "[ID|SOURCE]", "[ID|SOURCE]")
	if err != nil {
		return err
	}
	var n *deploy.Node
	bar := progress.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet"))
	if len(args) < 2 || isID(args[0]) || isID(args[1]) || c.IsSet("store") || c.IsSet("esp") || c.IsSet("store-label") || c.IsSet("recovery") {
		var close func()
		if n, close, err = m.open(c); err != nil {
			return err
		}
		defer close()
		bar = n.Progress
	}
	from, to, err := m.sides(c, n, args)
	if err != nil {
		return err
	}
	d, err := deploy.Diff(c.Context, n, from, to, c.Bool("files"), m.sourceOptions(c), bar)
	bar.Close()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, d)
	}
	printDifference(c.App.Writer, d, c.Bool("files"))
	return nil
}

var idForm = regexp.MustCompile(`^[0-9]+(-[0-9a-f]*)?$`)

// isID reports whether an argument means a deployment, not a source.
func isID(arg string) bool { return idForm.MatchString(arg) }

// sides finds what is compared: what runs with what boots next, or with what the
// node follows, unless the arguments say otherwise.
func (m machine) sides(c *cli.Context, n *deploy.Node, args []string) (from, to deploy.Side, err error) {
	var have deploy.Inventory
	if n != nil {
		if have, err = n.Inventory(); err != nil {
			return from, to, err
		}
	}
	side := func(arg string) (s deploy.Side, err error) {
		if !isID(arg) {
			return deploy.Side{Source: arg}, nil
		}
		s.Deployment, err = have.Find(arg)
		return s, err
	}
	roles := have.Roles()
	if len(args) == 2 {
		if from, err = side(args[0]); err == nil {
			to, err = side(args[1])
		}
		return from, to, err
	}
	if from.Deployment = roles.Booted; roles.Booted == nil {
		return from, to, exit.Hint(errors.New("nothing runs from this store"), "name two deployments or images")
	}
	switch {
	case len(args) == 1:
		to, err = side(args[0])
	case roles.Staged != nil:
		to.Deployment = roles.Staged
	default:
		to, err = m.followed(c, n)
	}
	return from, to, err
}

// followed is the update that the node can take.
func (m machine) followed(c *cli.Context, n *deploy.Node) (to deploy.Side, err error) {
	config, err := automation.Load(m.root)
	if err != nil {
		return to, err
	}
	follow := automation.Follower{Node: n, Config: config, Source: m.sourceOptions(c), ByHand: true, Now: m.now()}
	verdict, err := follow.Find(c.Context)
	if err != nil {
		return to, err
	}
	offer, takes, reason := verdict.Offer()
	if !takes {
		return to, exit.Reason(exit.WithCode(errors.New("nothing to compare with: "+reason), exit.Nothing), verdict.Code())
	}
	if offer.Deployed != nil {
		return deploy.Side{Deployment: offer.Deployed}, nil
	}
	to.InsecureRegistry = offer.InsecureRegistry
	to.Source, err = source.Pinned(offer.Reference, offer.ManifestDigest)
	return to, err
}

func printDifference(w io.Writer, d *deploy.Difference, list bool) {
	printSubject(w, "from", d.Old)
	printSubject(w, "to", d.New)
	changed := func(name, old, now string) {
		if old != now {
			printChange(w, name+":", orNone(old)+" -> "+orNone(now), "")
		}
	}
	fmt.Fprintln(w)
	changed("version", d.Old.Version, d.New.Version)
	changed("kernel", d.Old.Kernel, d.New.Kernel)
	fmt.Fprintf(w, "kernel arguments: %d added, %d removed\n", len(d.KargsAdded), len(d.KargsRemoved))
	for _, arg := range d.KargsAdded {
		terminal.Fprintf(w, "  + %s\n", arg)
	}
	for _, arg := range d.KargsRemoved {
		terminal.Fprintf(w, "  - %s\n", arg)
	}
	printPackages(w, d.Packages)
	fmt.Fprintf(w, "units: %s\n", count(len(d.Units), "change", "changes"))
	for _, u := range d.Units {
		terminal.Fprintf(w, "  %-8s %s\n", u.Change, u.Name)
	}
	hint := ""
	if !list && d.FilesAdded+d.FilesRemoved+d.FilesChanged > 0 {
		hint = " (--files lists them)"
	}
	fmt.Fprintf(w, "files: %d added, %d removed, %d changed%s\n", d.FilesAdded, d.FilesRemoved, d.FilesChanged, hint)
	signs := map[string]string{diff.Added: "+", diff.Removed: "-", diff.Changed: "~"}
	for _, f := range d.Paths {
		terminal.Fprintf(w, "  %s %s\n", signs[f.Change], f.Path)
	}
	if len(d.NotCompared) > 0 {
		fmt.Fprintln(w, "\nnot compared:")
		for _, what := range d.NotCompared {
			terminal.Fprintf(w, "  %s\n", what)
		}
	}
	if notes := d.New.Description + d.New.URL + d.New.Changelog; notes != "" {
		fmt.Fprintln(w, "\nrelease notes:")
		for _, text := range []string{d.New.Description, d.New.URL, d.New.Changelog} {
			for line := range strings.Lines(text) {
				terminal.Fprintf(w, "  %s\n", strings.TrimRight(line, "\r\n"))
			}
		}
	}
	if d.BytesFetched > 0 {
		fmt.Fprintf(w, "\nfetched %s to compare them\n", terminal.Bytes(d.BytesFetched))
	}
}

func printSubject(w io.Writer, word string, s deploy.Subject) {
	head := fmt.Sprintf("%-4s", word)
	for _, part := range []string{s.ID, s.OS, s.Version} {
		if part != "" && !strings.Contains(head, part) {
			head += " " + terminal.Line(part)
		}
	}
	terminal.Fprintf(w, "%s\n  %s\n", head, s.Reference)
	if s.ManifestDigest != "" {
		terminal.Fprintf(w, "  digest %s\n", s.ManifestDigest)
	}
}

func printPackages(w io.Writer, list []diff.Package) {
	added, removed := 0, 0
	for _, p := range list {
		switch {
		case p.Old == "":
			added++
		case p.New == "":
			removed++
		}
	}
	fmt.Fprintf(w, "packages: %d added, %d removed, %d changed\n", added, removed, len(list)-added-removed)
	for _, p := range list {
		switch {
		case p.Old == "":
			printChange(w, "+ "+p.Name, p.New, "  ")
		case p.New == "":
			printChange(w, "- "+p.Name, p.Old, "  ")
		default:
			printChange(w, "~ "+p.Name, p.Old+" -> "+p.New, "  ")
		}
	}
}

// printChange prints what has changed in one line or, where that is too long, two.
func printChange(w io.Writer, name, change, indent string) {
	sep := " "
	if utf8.RuneCountInString(indent+name+sep+change) > width {
		sep = "\n" + indent + "    "
	}
	terminal.Fprintf(w, "%s%s", indent, name)
	fmt.Fprint(w, sep)
	terminal.Fprintf(w, "%s\n", change)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
