package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kairos-io/toolkit/kairos-install/internal/cloudconfig"
	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/kairos-install/internal/plan"
	"github.com/kairos-io/toolkit/kairos-install/internal/target"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/nodeconfig"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// prepared is an installation that has passed all checks, before it changes anything.
type prepared struct {
	Request    request
	Image      imageInfo
	Bounds     layout.Bounds
	Candidates []target.Judgement
	Disk       target.Disk
	Why        string // why this disk was chosen
	Need       layout.Table
	Table      layout.Table
	Contents   target.Contents
	Steps      []plan.Step
	Configs    []plan.Config
}

// imageInfo is the object that kairos-upgrade inspect prints.
type imageInfo struct {
	Source    string `json:"-"`           // as the caller named it
	Reference string `json:"reference"`   // resolved reference of the image
	Bytes     int64  `json:"bytes_store"` // needed in an empty store
	BootBytes int64  `json:"bytes_boot"`  // needed on the ESP, 0 when unknown
	Exact     bool   `json:"exact"`       // the sizes are exact, not upper estimates
}

func parseInspection(source string, data []byte) (imageInfo, error) {
	i := imageInfo{Source: source}
	if err := json.Unmarshal(data, &i); err != nil {
		return i, fmt.Errorf("inspect %s: read the answer of kairos-upgrade: %w", source, err)
	}
	if i.Bytes <= 0 || i.BootBytes < 0 {
		return i, exit.Hint(fmt.Errorf("inspect %s: kairos-upgrade did not report its size", source),
			"name an image in a registry, an archive or an OCI layout")
	}
	return i, nil
}

// String describes the image for people.
func (i imageInfo) String() string {
	text := i.Source
	if i.Reference != "" && i.Reference != i.Source {
		text += ", which is " + i.Reference
	}
	about := "at most "
	if i.Exact {
		about = ""
	}
	text += ": " + about + terminal.Bytes(i.Bytes)
	if i.BootBytes > 0 {
		text += ", and " + terminal.Bytes(i.BootBytes) + " to boot"
	}
	return text
}

// prepare does all checks, the cheapest first, and makes the plan. On an error it
// returns what is known so far.
func prepare(ctx context.Context, m Machine, r request, runner run.Runner, report *progress.Reporter) (*prepared, error) {
	p := &prepared{Request: r}
	if err := checkTools(m, r.Encryption != nil); err != nil {
		return p, err
	}
	if !m.EFI {
		report.Warn("this machine was not started by UEFI firmware; an installed node boots with UEFI only")
	}
	if !m.Verity {
		report.Warn("this kernel's ext4 has no fs-verity: the installed system checks the image's digest, but not the contents of its files")
	}
	var err error
	if p.Configs, err = readConfigs(ctx, m, r, runner); err != nil {
		return p, err
	}
	report.Info("looking at %s", r.Image)
	if p.Image, err = inspect(ctx, runner, r.Image); err != nil {
		return p, err
	}
	repart, err := p.definitions(ctx, m, runner)
	if err != nil {
		return p, err
	}
	if err := p.choose(m); err != nil {
		return p, err
	}
	if p.Table, err = repart.Plan(ctx, p.Disk.Path, p.Disk.Size); err != nil {
		return p, err
	}
	if err := p.Table.Check(p.Bounds); err != nil {
		return p, exit.WithCode(err, exit.NoSpace)
	}
	if err := checkEncryption(ctx, r.Encryption, p.Disk.Path, p.Table, runner); err != nil {
		return p, err
	}
	report.Info("checking that %s boots", r.Image)
	if err := checkBoots(ctx, runner, report, r.Image); err != nil {
		return p, err
	}
	if p.Contents, err = m.Target.Contents(ctx, runner, p.Disk); err != nil {
		return p, err
	}
	secure, err := m.Target.Disk.Vars.SecureBoot()
	if err != nil { // as if it were on
		report.Warn("whether Secure Boot is on is not known: %v", err)
	}
	p.Steps = plan.Build(plan.Input{
		Device: p.Disk.Path, Table: p.Table, Repart: repart, Mounts: m.Work,
		Source: r.Image, Recovery: r.Recovery, Title: r.Title, Extra: r.Partitions.Extra, Kargs: r.Kargs, Configs: p.Configs,
		Hooks: run.Has(nodeconfig.Program), ConfigFiles: r.Configs, Verity: m.Verity, Firmware: m.Variables,
		Encryption: r.Encryption, SecureBoot: secure || err != nil,
	})
	return p, nil
}

func readConfigs(ctx context.Context, m Machine, r request, runner run.Runner) ([]plan.Config, error) {
	var configs []plan.Config
	if r.Live {
		live, err := cloudconfig.Live(m.Root)
		if err != nil {
			return nil, err
		}
		configs = live
	}
	// A machine that is no live system may have fetched configs of its own.
	since := r.Started
	if r.Live {
		since = time.Time{}
	}
	fetched, err := cloudconfig.Fetched(m.Root, since, r.Live)
	if err != nil {
		return nil, err
	}
	configs = append(configs, fetched...)
	given, err := cloudconfig.Files(ctx, cloudconfig.Validator{Runner: runner}, r.Configs)
	if err != nil {
		return nil, err
	}
	return append(configs, given...), nil
}

// definitions collects the partition definitions, with the sizes that the image needs,
// and determines the smallest disk on which they fit.
func (p *prepared) definitions(ctx context.Context, m Machine, runner run.Runner) (layout.Repart, error) {
	repart := layout.Repart{Runner: runner}
	for _, dir := range p.Request.Dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return repart, exit.Usagef("--definitions %s: not a directory", dir)
		}
	}
	for _, dir := range append(p.Request.Dirs, m.Definitions...) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		absolute, err := filepath.Abs(dir)
		if err != nil {
			return repart, err
		}
		repart.Definitions = append(repart.Definitions, absolute)
	}
	image := layout.Image{Bytes: p.Image.Bytes, BootBytes: p.Image.BootBytes}
	p.Bounds = layout.For(image)
	sizes := filepath.Join(m.Work, "repart.d")
	if err := os.Mkdir(sizes, 0o755); err != nil {
		return repart, fmt.Errorf("write partition sizes: %w", err)
	}
	if err := layout.WriteDropins(sizes, p.Bounds, p.Request.Partitions); err != nil {
		return repart, err
	}
	repart.Definitions = append(repart.Definitions, sizes)
	var err error
	if p.Need, err = repart.Minimum(ctx, m.Work); err != nil {
		return repart, err
	}
	return repart, p.Need.Check(p.Bounds)
}

// choose judges all disks and chooses one.
func (p *prepared) choose(m Machine) (err error) {
	if p.Candidates, err = m.Target.Judge(p.Need.Size); err != nil {
		return err
	}
	if p.Request.Device == "auto" {
		if p.Disk, p.Why, err = target.Choose(p.Candidates); err != nil {
			return p.noDisk(err)
		}
		return nil
	}
	if p.Disk, err = m.Target.Find(p.Request.Device); err != nil {
		return exit.Hint(err, "kairos-install --dry-run lists the disks of this machine")
	}
	for _, j := range p.Candidates {
		if j.Disk.Name != p.Disk.Name || j.Refusal == "" {
			continue
		}
		err := fmt.Errorf("%s: %s", p.Disk.Path, j.Refusal)
		if j.Small {
			return exit.WithCode(fmt.Errorf("%w: %s", err, p.Need.Sum()), exit.NoSpace)
		}
		return err
	}
	p.Why = "as asked for"
	return nil
}

// noDisk returns the error of --device auto: the one about space, if disks are too
// small for no other reason.
func (p *prepared) noDisk(err error) error {
	for _, j := range p.Candidates {
		if j.Small && j.Automatic == "" {
			return exit.WithCode(fmt.Errorf("%w: the smallest suitable disk has %s: %s",
				err, terminal.Bytes(p.Need.Size), p.Need.Sum()), exit.NoSpace)
		}
	}
	return exit.Hint(err, "name one with --device; removable, USB and virtual ones are never chosen automatically")
}
