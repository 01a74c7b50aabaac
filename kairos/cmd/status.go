package cmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// status is the object that status --json prints.
type status struct {
	Format  int             `json:"format"`
	Runs    runs            `json:"runs"`
	Next    *next           `json:"next"`    // null: the running deployment
	Upgrade upgrades        `json:"upgrade"` // state of automatic upgrades
	Failed  []failure       `json:"failed"`
	Config  config          `json:"config"`
	Volumes []volume        `json:"volumes"`
	Space   []space         `json:"space"`
	Busy    string          `json:"busy"`  // running operation, "" for none
	Tools   json.RawMessage `json:"tools"` // the answer of each tool, by program
}

type runs struct {
	ID             string          `json:"id"`
	OS             string          `json:"os"`
	Version        string          `json:"version"`
	Reference      string          `json:"reference"`
	ManifestDigest string          `json:"manifest_digest"`
	Mode           deployment.Mode `json:"mode"`
	Since          time.Time       `json:"since,omitzero"`
	Why            string          `json:"why"`     // why this deployment runs, for people
	Verdict        string          `json:"verdict"` // on this boot, "" when unknown
	Reason         string          `json:"reason"`  // of a bad verdict, for people
}

type next struct {
	ID             string `json:"id"`
	OS             string `json:"os"`
	Version        string `json:"version"`
	Reference      string `json:"reference"`
	ManifestDigest string `json:"manifest_digest"`
	Why            string `json:"why"`
	TriesLeft      int    `json:"tries_left"`
}

type upgrades struct {
	Mode    string    `json:"mode"`
	Checked time.Time `json:"checked,omitzero"`
	Found   string    `json:"found"` // reference of an available upgrade, ""
	Reason  string    `json:"reason"`
	Error   string    `json:"error"`
}

type failure struct {
	Kind   string `json:"kind"` // unit, check, stage, generation, image, volume, tool
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

type config struct {
	Booted string `json:"booted"` // id of the generation, "" for the plain configs
	Staged string `json:"staged"`
}

type volume struct {
	Label       string `json:"label"`
	Device      string `json:"device"`
	AfterReboot string `json:"unlocks_after_reboot"`
	RecoveryKey bool   `json:"recovery_key"`
}

func statusCommand(booted string, out io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the running deployment and why it runs, the next one, failures, and the space",
		Flags: []cli.Flag{cmdline.JSONFlag()},
		Action: func(c *cli.Context) error {
			if _, err := cmdline.Arguments(c); err != nil {
				return err
			}
			b, err := deployment.ReadBooted(booted)
			if err != nil {
				return exit.Hint(err, "kairos --help lists the tools")
			}
			a := gather(c.Context)
			s := read(b, a)
			failed, err := units(c.Context)
			s.add(a, failed, err)
			if c.Bool("json") {
				if s.Tools, err = json.Marshal(a.raw); err != nil {
					return err
				}
				return cmdline.PrintJSON(c, s)
			}
			s.print(&page{w: out, colour: colours(out)})
			return nil
		},
	}
}

// read combines the answers of the tools.
func read(b deployment.Booted, a *answers) *status {
	s := &status{Format: 1, Failed: []failure{}, Volumes: []volume{}, Space: []space{}}
	booted, _ := a.Upgrade.find(b.ID)
	s.Runs = runs{
		ID: b.ID, OS: booted.OS, Version: b.Version, Reference: b.Reference, ManifestDigest: b.ManifestDigest, Mode: b.Mode,
		Since: a.Assess.Boot.Started, Verdict: string(a.Assess.Boot.Outcome), Reason: a.Assess.Boot.Reason, Why: why(b, booted, a),
	}
	if n, ok := a.Upgrade.find(a.Upgrade.Staged); ok {
		s.Next = &next{n.ID, n.OS, n.Version, n.Reference, n.ManifestDigest, staged(n), n.TriesLeft}
	}
	s.Upgrade = upgrades{Mode: a.Upgrade.Settings.Mode, Error: a.Upgrade.Settings.Error}
	if d := a.Upgrade.Automation; d != nil {
		s.Upgrade.Checked, s.Upgrade.Reason = d.Checked, d.Reason
		s.Upgrade.Error = cmp.Or(s.Upgrade.Error, d.Error)
		if d.Update != nil {
			s.Upgrade.Found = d.Update.Reference
		}
	}
	s.Config = config{a.Config.Config.Booted, a.Config.Config.Staged}
	for _, v := range a.Crypt.Volumes {
		s.Volumes = append(s.Volumes, volume{v.Label, v.Device, string(v.AfterReboot), v.RecoveryKey})
	}
	if a.Upgrade.Store.Size > 0 {
		a.Upgrade.ESP.Label = "ESP"
		s.Space = append(s.Space, a.Upgrade.Store, a.Upgrade.ESP)
	}
	if p, _ := persistentSpace(); p != nil {
		s.Space = append(s.Space, *p)
	}
	if busy := a.Upgrade.Busy; busy != nil {
		s.Busy = strings.TrimSpace(busy.Command + " " + busy.Reference)
	}
	return s
}

// why returns why this deployment runs.
func why(b deployment.Booted, booted report.Deployment, a *answers) string {
	f := a.Assess.LastFallback
	switch {
	case b.Mode == deployment.Recovery:
		return "the recovery system was chosen, or nothing else boots"
	case b.Mode == deployment.Live:
		return "booted from a medium"
	case f != nil && b.ID != "" && f.Fallback.To == b.ID:
		return "fell back from " + f.Fallback.From + ": " + f.Fallback.Reason
	case b.Mode == deployment.Passive:
		return "an older one, chosen in the boot menu"
	case booted.ID != "" && !booted.Created.IsZero():
		return staged(booted)
	}
	return ""
}

// staged returns when and by what a deployment was staged.
func staged(d report.Deployment) string {
	by := map[string]string{"stage": "by hand", "auto": "by the automation", "rollback": "by a rollback", "install": "by the installation"}
	return "staged " + terminal.Time(d.Created) + " " + cmp.Or(by[d.Origin], d.Origin)
}

// add adds a failure.
func (s *status) add(a *answers, units []string, err error) {
	note := func(kind, name, reason string) { s.Failed = append(s.Failed, failure{kind, name, reason}) }
	if s.Runs.Verdict == "bad" {
		note("boot", s.Runs.ID, s.Runs.Reason)
	}
	for _, u := range units {
		note("unit", u, "")
	}
	if err != nil {
		note("tool", "systemctl", err.Error())
	}
	for _, c := range a.Assess.Boot.Checks {
		if !c.OK() {
			note("check", c.Name, cmp.Or(c.Message, c.Detail, string(c.State)))
		}
	}
	for _, st := range a.Config.Stages {
		for _, p := range st.Problems {
			note("stage", fmt.Sprintf("%s: %s:%d", st.Stage, p.File, p.Line), p.Message)
		}
		for _, step := range st.Steps {
			if step.Outcome == report.Failed {
				note("stage", fmt.Sprintf("%s: %s:%d", st.Stage, step.File, step.Line), strings.Join(step.Errors, "; "))
			}
		}
	}
	for _, g := range a.Config.Config.Generations {
		if g.State == "failed" {
			note("generation", g.ID, g.Reason)
		}
	}
	for _, q := range a.Upgrade.Quarantined {
		note("image", q.Reference, q.Reason)
	}
	for _, f := range a.Crypt.Foreign {
		note("volume", f.Label, "it is not the volume that belongs to this node")
	}
	for _, v := range a.Crypt.Volumes {
		if v.Damaged != "" {
			note("volume", v.Label, v.Damaged)
		}
	}
	for _, program := range slices.Sorted(maps.Keys(a.errors)) {
		note("tool", program, strings.TrimPrefix(a.errors[program].Error(), program+": "))
	}
}

// page is the output for people: blocks with a name in front, in 80 columns.
type page struct {
	w      io.Writer
	colour bool
}

const (
	width  = 80
	indent = 9

	green, yellow, red = "\x1b[32m", "\x1b[33m", "\x1b[31m"
)

// colours reports whether a writer is a terminal with colours.
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && terminal.Is(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// block prints lines after a mark and a name.
func (p *page) block(mark, name, colour string, lines ...string) {
	head := fmt.Sprintf("%s %-*s", terminal.Mark(mark), indent-2, name)
	if p.colour && colour != "" {
		head = colour + head + "\x1b[0m"
	}
	for _, line := range lines {
		for _, part := range wrap(terminal.Line(line), width-indent) {
			fmt.Fprintf(p.w, "%s%s\n", head, part)
			head = strings.Repeat(" ", indent)
		}
	}
}

// wrap breaks a text at spaces. It never breaks a long word, so that it can be copied.
func wrap(text string, columns int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

func named(id, os, version string) string {
	name := cmp.Or(os, "Linux")
	if version != "" && !strings.Contains(name, version) {
		name += " " + version
	}
	return fmt.Sprintf("%s (%s)", name, cmp.Or(id, "unknown"))
}

func (s *status) print(p *page) {
	colour, verdict := green, cmp.Or(s.Runs.Verdict, "not judged")
	switch s.Runs.Verdict {
	case "good":
	case "bad":
		colour = red
	default:
		colour = yellow
	}
	lines := []string{named(s.Runs.ID, s.Runs.OS, s.Runs.Version), s.Runs.Reference, s.Runs.ManifestDigest}
	about := fmt.Sprintf("%s, %s", s.Runs.Mode, verdict)
	if !s.Runs.Since.IsZero() {
		about += ", since " + terminal.Time(s.Runs.Since)
	}
	p.block("●", "runs", colour, append(lines, about, s.Runs.Why)...)
	if n := s.Next; n != nil {
		p.block("→", "next", yellow, named(n.ID, n.OS, n.Version), n.Reference, n.ManifestDigest, fmt.Sprintf("%s; %d tries left", n.Why, n.TriesLeft))
	} else if s.Runs.Mode == deployment.Active {
		p.block("→", "next", "", "the same")
	}
	s.printUpgrades(p)
	if s.Busy != "" {
		p.block(" ", "busy", yellow, s.Busy)
	}
	for _, f := range s.Failed {
		line := f.Kind + " " + f.Name
		if f.Reason != "" {
			line += ": " + f.Reason
		}
		p.block("×", "failed", red, line)
	}
	switch c := s.Config; {
	case c.Staged != "":
		p.block(" ", "config", "", fmt.Sprintf("generation %s; %s boots next", cmp.Or(c.Booted, "none"), c.Staged))
	case c.Booted != "":
		p.block(" ", "config", "", "generation "+c.Booted)
	default:
		p.block(" ", "config", "", "plain files, no generation")
	}
	for _, v := range s.Volumes {
		key, colour := "", ""
		if !v.RecoveryKey {
			key = "; no recovery key"
		}
		if v.AfterReboot != "yes" {
			colour = yellow
		}
		p.block(" ", "volume", colour, fmt.Sprintf("%s on %s: unlocks by itself after the reboot: %s%s", v.Label, v.Device, cmp.Or(v.AfterReboot, "unknown"), key))
	}
	for _, sp := range s.Space {
		colour := ""
		if sp.Free < sp.Size/10 {
			colour = yellow
		}
		p.block(" ", "space", colour, fmt.Sprintf("%s: %s free of %s", sp.Label, terminal.Bytes(sp.Free), terminal.Bytes(sp.Size)))
	}
}

func (s *status) printUpgrades(p *page) {
	u := s.Upgrade
	switch when := terminal.Time(u.Checked); {
	case u.Error != "" && u.Checked.IsZero():
		p.block("×", "auto", red, "stopped: "+u.Error)
	case u.Error != "":
		p.block("×", "auto", red, "failed at "+when+": "+u.Error)
	case u.Checked.IsZero() && u.Mode == "off":
		p.block(" ", "auto", "", "by hand (Mode=off)")
	case u.Checked.IsZero() && u.Mode != "":
		p.block(" ", "auto", "", "Mode="+u.Mode+", has not looked since the boot")
	case u.Found != "":
		p.block(" ", "auto", yellow, u.Found+": "+u.Reason, "Mode="+u.Mode+", looked at "+when)
	case !u.Checked.IsZero():
		p.block(" ", "auto", "", u.Reason, "Mode="+u.Mode+", looked at "+when)
	}
}
