package cmd

import (
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/kairos-install/internal/plan"
	"github.com/kairos-io/toolkit/kairos-install/internal/target"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// Result is the object that kairos-install prints with --json: what was done or, with
// --dry-run, would be done.
type Result struct {
	DryRun      bool            `json:"dry_run"`
	Device      string          `json:"device"` // "" when none was found
	Why         string          `json:"why"`
	SizeBytes   int64           `json:"size_bytes"`
	NeededBytes int64           `json:"needed_bytes"` // size of the smallest sufficient disk
	Image       Image           `json:"image"`
	Partitions  []PartitionInfo `json:"partitions"`
	Configs     []string        `json:"configs"` // names of the files on COS_OEM
	Seconds     float64         `json:"seconds,omitempty"`
	Deployment  plan.Staged     `json:"deployment,omitzero"` // on COS_STATE
	Recovery    plan.Staged     `json:"recovery,omitzero"`   // on COS_RECOVERY
	// Encrypted are the created volumes, which the recovery key opens; RecoveryKeyGiven
	// says that the escrow has accepted the key. The object never has the key itself.
	Encrypted        []recoverykey.Volume `json:"encrypted,omitempty"`
	RecoveryKeyGiven bool                 `json:"recovery_key_given,omitempty"`
	// Candidates and Steps are for --dry-run only.
	Candidates []Candidate   `json:"candidates,omitempty"`
	Erases     []target.Item `json:"erases,omitempty"`
	Steps      []StepInfo    `json:"steps,omitempty"`
}

// Image is the installed image.
type Image struct {
	Source    string `json:"source"`
	Reference string `json:"reference,omitempty"` // its source
	SizeBytes int64  `json:"size_bytes"`          // size in an empty store
	BootBytes int64  `json:"boot_bytes"`          // size of its boot files on the ESP, 0 when unknown
	Exact     bool   `json:"exact"`               // the sizes are exact, not upper estimates
}

// PartitionInfo is a partition of the new table.
type PartitionInfo struct {
	Label       string `json:"label"`
	Device      string `json:"device"`
	Number      int    `json:"number"`
	OffsetBytes int64  `json:"offset_bytes"`
	SizeBytes   int64  `json:"size_bytes"`
	Definition  string `json:"definition"` // file
}

// Candidate is a disk of the machine.
type Candidate struct {
	Device    string `json:"device"`
	SizeBytes int64  `json:"size_bytes"`
	Model     string `json:"model,omitempty"`
	Serial    string `json:"serial,omitempty"`
	Suitable  bool   `json:"suitable"`         // --device auto may choose it
	Named     bool   `json:"named"`            // --device may name it
	Reason    string `json:"reason,omitempty"` // why the disk is not suitable
}

// StepInfo is a step of the plan.
type StepInfo struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Optional bool     `json:"optional,omitempty"`
	Actions  []string `json:"actions"`
}

func newResult(p *prepared) Result {
	r := Result{
		DryRun: p.Request.DryRun, Device: p.Disk.Path, Why: p.Why,
		SizeBytes: p.Disk.Size, NeededBytes: p.Need.Size,
		Image:   Image{p.Image.Source, p.Image.Reference, p.Image.Bytes, p.Image.BootBytes, p.Image.Exact},
		Configs: []string{}, Partitions: []PartitionInfo{},
	}
	for _, t := range p.Table.Partitions {
		r.Partitions = append(r.Partitions, PartitionInfo{t.Label, t.Node, t.Number, t.Offset, t.Size, t.File})
	}
	for _, c := range p.Configs {
		r.Configs = append(r.Configs, c.Name)
	}
	if !r.DryRun {
		return r
	}
	for _, j := range p.Candidates {
		r.Candidates = append(r.Candidates, Candidate{j.Disk.Path, j.Disk.Size, j.Disk.Model, j.Disk.Serial,
			j.Suitable(), j.Refusal == "", j.Why()})
	}
	r.Erases = p.Contents.Items
	for _, s := range p.Steps {
		info := StepInfo{s.Name, s.Title, s.Optional, nil}
		for _, a := range s.Actions {
			info.Actions = append(info.Actions, a.String())
		}
		r.Steps = append(r.Steps, info)
	}
	return r
}

// staged stores the deployment on a store.
func (r *Result) staged(label string, s plan.Staged) {
	if label == disk.LabelRecovery {
		r.Recovery = s
		return
	}
	r.Deployment = s
}

// printPlan prints all disks, with the reasons against them, and the plan if a suitable
// disk was found.
func printPlan(c *cli.Context, p *prepared) error {
	if c.Bool("json") {
		return cmdline.PrintJSON(c, newResult(p))
	}
	w := c.App.Writer
	fmt.Fprintln(w, "Disks:")
	for _, j := range p.Candidates {
		verdict := "suitable"
		switch {
		case p.Steps != nil && j.Disk.Name == p.Disk.Name:
			verdict = "chosen: " + p.Why
		case j.Refusal != "":
			verdict = "refused: " + j.Refusal
		case j.Automatic != "":
			verdict = "only when named: " + j.Automatic
		}
		terminal.Fprintf(w, "  %-14s %10s  %s\n", j.Disk.Path, terminal.Bytes(j.Disk.Size), verdict)
	}
	terminal.Fprintf(w, "Image:\n  %s\n", p.Image)
	terminal.Fprintf(w, "Smallest disk:\n  %s\n  %s\n", p.Need.Sum(), p.Bounds.Explain())
	if p.Steps == nil {
		return nil
	}
	if lines := p.Contents.Lines(); len(lines) > 0 {
		terminal.Fprintf(w, "Erased on %s:\n  %s\n", p.Disk.Path, strings.Join(lines, "\n  "))
	}
	printTable(c, p.Table)
	fmt.Fprintln(w, "Steps:")
	plan.Print(w, p.Steps)
	return nil
}

func printTable(c *cli.Context, t layout.Table) {
	fmt.Fprintln(c.App.Writer, "Partitions:")
	for _, p := range t.Partitions {
		terminal.Fprintf(c.App.Writer, "  %-14s %10s  %-16s %s\n", p.Node, terminal.Bytes(p.Size), p.Label, p.File)
	}
}

// describe describes a disk so that a person recognizes it.
func describe(d target.Disk) string {
	words := []string{}
	for _, w := range []string{d.Model, d.Serial, terminal.Bytes(d.Size)} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, ", ")
}
