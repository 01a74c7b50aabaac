package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"unicode"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/deploy"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/sdnotify"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// sourceFlags say how images are read.
func sourceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "authfile", Usage: "`FILE` with credentials for registries"},
		&cli.BoolFlag{Name: "insecure", Usage: "accept a registry without TLS or with an unknown certificate"},
	}
}

func (m machine) sourceOptions(c *cli.Context) source.Options {
	root := m.root
	if root == "/" {
		root = ""
	}
	return source.Options{
		Root:     root,
		AuthFile: c.String("authfile"),
		Insecure: c.Bool("insecure"),
		Log:      logline.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet")),
	}
}

func stageCommand(m machine) *cli.Command {
	return &cli.Command{
		Name:      "stage",
		Usage:     "make an image the next boot",
		ArgsUsage: "[SOURCE]",
		Flags: append(append(storeFlags(), sourceFlags()...),
			&cli.BoolFlag{Name: "live", Usage: "make the store of a live medium: --store-label COS_LIVE"},
			&cli.BoolFlag{Name: "replace", Usage: "with --recovery: remove the old one first if there is no space for two"},
			&cli.BoolFlag{Name: "force", Usage: "stage an image that is quarantined or already boots next; ignore the estimate of needed space"},
			&cli.StringSliceFlag{Name: "karg", Usage: "add the kernel `ARGUMENT` to this and all later deployments; repeatable"},
			&cli.StringSliceFlag{Name: "delete-karg", Usage: "drop kernel `ARGUMENT` that --karg added; repeatable"},
			&cli.StringSliceFlag{Name: "crypt", Usage: "expect the encrypted volume `LABEL:UUID`, or LABEL:none, in this and all later deployments; repeatable"},
			&cli.BoolFlag{Name: "allow-unverified", Usage: "stage even if the store has lost fs-verity: contents are not verified any more"},
			&cli.StringFlag{Name: "title", Usage: "show this and all later deployments as `TEXT` in the boot menu"},
			&cli.StringFlag{Name: "origin", Value: "stage", Hidden: true},
			// For kairos-media: see deploy.Node, Medium.
			&cli.BoolFlag{Name: "medium", Hidden: true},
			applyFlag(), cmdline.DryRunFlag(), cmdline.WaitFlag(), cmdline.JSONFlag(), cmdline.QuietFlag()),
		Action: func(c *cli.Context) error { return stage(c, m) },
	}
}

func stage(c *cli.Context, m machine) error {
	args, err := cmdline.Arguments(c, "[SOURCE]")
	if err != nil {
		return err
	}
	if err := m.mayApply(c); err != nil {
		return err
	}
	a, err := m.asked(c, args)
	if err != nil {
		return err
	}
	a.Reboot = a.Reboot || c.Bool("apply")
	return m.stage(c, a, m.request(c, a))
}

// request is what the options and the config ask for.
func (m machine) request(c *cli.Context, asked asked) deploy.Request {
	return deploy.Request{
		Source:      asked.Source,
		Options:     m.sourceOptions(c),
		Force:       c.Bool("force") || asked.Force,
		Replace:     c.Bool("replace"),
		AddKargs:    c.StringSlice("karg"),
		DeleteKargs: c.StringSlice("delete-karg"),
		Title:       cmp.Or(c.String("title"), asked.Title),
		Origin:      cmp.Or(c.String("origin"), "stage"),

		AllowUnverified: c.Bool("allow-unverified"),
	}
}

func (m machine) stage(c *cli.Context, asked asked, req deploy.Request) (err error) {
	if req.Volumes, err = volumesAsked(c.StringSlice("crypt")); err != nil {
		return err
	}
	if req.Replace && !c.Bool("recovery") {
		return exit.Usagef("--replace needs --recovery")
	}
	if strings.ContainsFunc(req.Title, unicode.IsControl) || len(req.Title) > maxTitle {
		return exit.Usagef("--title %q: one line, of %d bytes at most", req.Title, maxTitle)
	}
	if c.Bool("dry-run") {
		return planStage(c, m, req)
	}
	if err := asked.hook(c.Context, "before-upgrade"); err != nil {
		return err
	}
	if c.Bool("medium") && (c.String("store") == "" || c.String("esp") == "") {
		return exit.Usagef("--medium needs --store and --esp")
	}
	do := Change("stage").on(req.Source).creating().forMedium(c.Bool("medium"))
	err = m.with(c, do, func(n *deploy.Node) error { return stageOn(c, n, req) })
	if errors.Is(err, deploy.ErrCannotBoot) {
		err = exit.Hint(err, "kairos-upgrade lint %s shows what to do; --force stages it nevertheless", req.Source)
	}
	if err != nil {
		return err
	}
	if err := asked.chroot(c.Context, "after-upgrade-chroot", c.Bool("recovery"), c.String("store-label")); err != nil {
		return err
	}
	if err := asked.hook(c.Context, "after-upgrade"); err != nil {
		return err
	}
	switch {
	case asked.Reboot: // or --apply, whatever the config says
		return m.reboot(c.Context)
	case asked.Poweroff:
		return m.leave(c.Context, "poweroff")
	}
	return nil
}

// volumesAsked reads the values of --crypt.
func volumesAsked(values []string) (deployment.Volumes, error) {
	asked := deployment.Volumes{}
	for _, value := range values {
		label, uuid, _ := strings.Cut(value, ":")
		if uuid == deploy.NoVolume && label != "" {
			asked[label] = uuid
			continue
		}
		v, err := deployment.ParseVolumes(value)
		if err != nil {
			return nil, exit.Usagef("--crypt %w", err)
		}
		maps.Copy(asked, v)
	}
	return asked, nil
}

func stageOn(c *cli.Context, n *deploy.Node, req deploy.Request) error {
	staged, err := n.Stage(c.Context, req)
	if err != nil {
		return err
	}
	sdnotify.Status("Staged %s", staged.ID)
	if !staged.Verity {
		n.Log.Warn("this store has no fs-verity: the image is checked by reading it at boot, the contents of files are not")
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, staged)
	}
	n.Progress.Close()
	printStaged(c.App.Writer, staged, n)
	return nil
}

func printStaged(w io.Writer, s *deploy.Staged, n *deploy.Node) {
	terminal.Fprintf(w, "staged %s: %s\n", s.ID, deploy.Title(s.Record))
	if s.LayersFetched+s.LayersReused > 0 {
		terminal.Fprintf(w, "  fetched %s in %s%s, reused %s\n", terminal.Bytes(s.Fetched.Bytes),
			count(s.LayersFetched, "layer", "layers"), inPart(s.Fetched), count(s.LayersReused, "layer", "layers"))
	}
	if s.FilesReused > 0 {
		terminal.Fprintf(w, "%s with %s were already here\n", count(s.FilesReused, "file", "files"), terminal.Bytes(s.BytesReused))
	}
	terminal.Fprintf(w, "  added %d of %d objects, %s of %s\n", s.ObjectsAdded, s.Objects, terminal.Bytes(s.BytesAdded), terminal.Bytes(s.Record.Bytes))
	if s.Downgrade {
		terminal.Fprintf(w, "  a downgrade: from version %s\n", s.FromVersion)
	}
	if s.Lifted != "" {
		terminal.Fprintf(w, "  taken out of quarantine, where it was because: %s\n", s.Lifted)
	}
	if n.Fixed() {
		terminal.Fprintf(w, "  boots when its entry is chosen (%s)\n", n.Label)
		return
	}
	terminal.Fprintf(w, "  %s\n", bootsNext(n))
}

// bootsNext says whether what was published boots next.
func bootsNext(n *deploy.Node) string {
	have, err := n.Inventory()
	if err != nil {
		return "cannot determine what boots next: " + exit.Message(err)
	}
	if before := have.Before(); before != "" {
		return "does not boot next: " + before + " comes first in the boot menu"
	}
	return "boots next"
}

// inPart says how many of the layers were fetched by the ranges that are missing here.
func inPart(f deploy.Fetched) string {
	if f.LayersPartial == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d in part)", f.LayersPartial)
}

// planStage prints what a staging would do.
func planStage(c *cli.Context, m machine, req deploy.Request) error {
	n, close, err := m.openTo(c, Look.creating())
	if err != nil {
		return err
	}
	defer close()
	plan, err := n.Plan(c.Context, req)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmdline.PrintJSON(c, plan)
	}
	n.Progress.Close()
	for i, step := range plan.Steps {
		terminal.Fprintf(c.App.Writer, "%d. %s\n", i+1, step)
	}
	return nil
}
