package cmd

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func verifyCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check all files of the deployments against their digests",
		ArgsUsage: "[ID]",
		Flags: append(append(storeFlags(), sourceFlags()...),
			&cli.BoolFlag{Name: "repair", Usage: "restore damaged files, from this node or from the image"},
			cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error { return verify(c, m) },
	}
}

func verify(c *cli.Context, m machine) error {
	if _, err := cmdline.Arguments(c, "[ID]"); err != nil {
		return err
	}
	repair, dryRun := c.Bool("repair"), c.Bool("dry-run")
	if dryRun && !repair {
		return exit.Usagef("--dry-run needs --repair: verify alone changes nothing")
	}
	do := changeUnless(!repair || dryRun, "verify --repair").on(c.Args().First())
	return m.with(c, do, func(n *deploy.Node) error { return m.verifyOn(c, n) })
}

func (m machine) verifyOn(c *cli.Context, n *deploy.Node) (err error) {
	var v *deploy.Verified
	var repaired *deploy.Repaired
	var result any
	dryRun := c.Bool("dry-run")
	if c.Bool("repair") {
		if repaired, err = m.repair(c, n, dryRun); err != nil {
			return err
		}
		v, result = &repaired.Verified, repaired
	} else {
		if v, err = n.Verify(c.Context, c.Args().First()); err != nil {
			return err
		}
		result = v
	}
	n.Progress.Close()
	m.report(n, v, repaired)
	if !c.Bool("json") {
		printVerified(c.App.Writer, v, repaired, dryRun)
	} else if err := cmdline.PrintJSON(c, result); err != nil {
		return err
	}
	return damageError(v, repaired, dryRun)
}

// repair opens the other store of this node, if there is one, and repairs.
func (m machine) repair(c *cli.Context, n *deploy.Node, dryRun bool) (*deploy.Repaired, error) {
	o := deploy.RepairOptions{Source: m.sourceOptions(c), DryRun: dryRun}
	if c.String("store") == "" {
		if name, spare := m.spare(n); spare != nil {
			defer spare.Close()
			o.Spares = append(o.Spares, deploy.Spare{Name: name, Store: spare})
		}
	}
	return n.Repair(c.Context, c.Args().First(), o)
}

// report tells the journal, where it is the one to hear.
func (m machine) report(n *deploy.Node, v *deploy.Verified, repaired *deploy.Repaired) {
	e := journal.Entry{MessageID: journal.StoreWhole, Priority: 6, Fields: map[string]string{"KAIROS_STORE": n.Label}}
	e.Message = fmt.Sprintf("store %s is undamaged: %d deployments, %d objects, %s", n.Label, v.Deployments, v.Objects, terminal.Bytes(v.Bytes))
	if repaired != nil && len(repaired.Mended) > 0 {
		e.Message = fmt.Sprintf("store %s is undamaged again: %s repaired", n.Label, count(len(repaired.Mended), "thing", "things"))
		e.Fields["KAIROS_REPAIRED"] = fmt.Sprint(len(repaired.Mended))
	}
	if len(v.Damaged) > 0 {
		var names []string
		touched := map[string]bool{}
		for _, d := range v.Damaged {
			names = append(names, d.Kind+" "+d.Name)
			for _, id := range d.Deployments {
				touched[id] = true
			}
		}
		e.MessageID, e.Priority = journal.StoreDamaged, 3
		e.Message = fmt.Sprintf("store %s is damaged: %s", n.Label, count(len(names), "thing", "things"))
		e.Fields["KAIROS_DAMAGED"] = strings.Join(names, "\n")
		e.Fields["KAIROS_DEPLOYMENTS"] = strings.Join(slices.Sorted(maps.Keys(touched)), " ")
	}
	m.writeJournal(n.Log, e)
	sdnotify.Status("%s", e.Message)
}

func printVerified(w io.Writer, v *deploy.Verified, repaired *deploy.Repaired, dryRun bool) {
	for _, id := range v.Incomplete {
		terminal.Fprintf(w, "incomplete deployment %s: it has no boot entry, an interrupted transaction left it; gc removes it\n", id)
	}
	for _, d := range v.Damaged {
		touches := "affects no deployment"
		if len(d.Deployments) > 0 {
			touches = "touches " + strings.Join(d.Deployments, ", ")
		}
		terminal.Fprintf(w, "damaged %s %s%s: %s (%s)\n", thing(d.Kind), d.Name, filesOf(", ", d.Paths), d.Problem, touches)
		if d.Failure != "" {
			terminal.Fprintf(w, "  could not be repaired: %s\n", d.Failure)
		}
		if d.Advice != "" {
			terminal.Fprintf(w, "  %s\n", d.Advice)
		}
	}
	if repaired != nil {
		verb := "repaired"
		if dryRun {
			verb = "would repair"
		}
		for _, m := range repaired.Mended {
			terminal.Fprintf(w, "%s %s %s, from %s%s\n", verb, thing(m.Kind), m.Name, m.From, filesOf(": ", m.Paths))
		}
		if repaired.Fetched.Bytes > 0 {
			terminal.Fprintf(w, "fetched %s in %s\n", terminal.Bytes(repaired.Fetched.Bytes), count(repaired.LayersFetched, "layer", "layers"))
		}
	}
	terminal.Fprintf(w, "verified %d deployments: %d images, %d objects, %d boot files, %s\n",
		v.Deployments, v.Images, v.Objects, v.BootFiles, terminal.Bytes(v.Bytes))
}

// filesOf names the files of the images that an object is, behind a separator.
func filesOf(separator string, paths []string) string {
	switch len(paths) {
	case 0:
		return ""
	case 1:
		return separator + paths[0]
	}
	return fmt.Sprintf("%s%s and %d more", separator, paths[0], len(paths)-1)
}

func thing(kind string) string { return strings.ReplaceAll(kind, "_", " ") }

func damageError(v *deploy.Verified, repaired *deploy.Repaired, dryRun bool) error {
	if len(v.Damaged) == 0 {
		return nil
	}
	err := errors.New(count(len(v.Damaged), "thing is", "things are") + " damaged")
	// What has an advice is known from nowhere else.
	lost := !slices.ContainsFunc(v.Damaged, func(d deploy.Damage) bool { return d.Advice == "" })
	switch {
	case lost:
		return exit.Hint(err, "kairos-upgrade verify --repair can't restore that, since nothing else knows it: see the lines above")
	case repaired == nil || dryRun:
		return exit.Hint(err, "kairos-upgrade verify --repair restores what it can; "+
			"kairos-upgrade rollback goes back to an undamaged deployment")
	case len(repaired.Mended) > 0:
		err = fmt.Errorf("%w still", err)
	}
	return exit.Hint(err, "stage the image again, or roll back to an undamaged deployment")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
