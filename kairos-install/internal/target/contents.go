package target

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// Contents is the current content of a disk, which an installation erases.
type Contents struct {
	Items []Item
	// Installation says that the disk has partitions of a Kairos installation.
	Installation bool
}

// Item is the disk itself or one of its partitions.
type Item struct {
	Name       string   `json:"name"` // vda1
	SizeBytes  int64    `json:"size_bytes"`
	Label      string   `json:"label,omitempty"` // of the partition, or of the file system
	Signatures []string `json:"signatures"`      // gpt, ext4, crypto_LUKS
}

// Empty reports whether the disk is empty.
func (c Contents) Empty() bool { return len(c.Items) == 0 }

// Lines describes the contents, one item a line.
func (c Contents) Lines() []string {
	var lines []string
	for _, i := range c.Items {
		what := strings.Join(i.Signatures, ", ")
		if what == "" {
			what = "no known file system"
		}
		line := fmt.Sprintf("%-12s %10s  %s", i.Name, terminal.Bytes(i.SizeBytes), what)
		if i.Label != "" {
			line += " " + i.Label
		}
		lines = append(lines, line)
	}
	return lines
}

// Contents returns what wipefs(8) finds on a disk and on its partitions.
func (s System) Contents(ctx context.Context, r run.Runner, d Disk) (Contents, error) {
	var c Contents
	look := func(name, path, label string, size int64, always bool) error {
		found, err := signatures(ctx, r, path)
		if err != nil {
			return fmt.Errorf("read the content of %s: %w", path, err)
		}
		item := Item{Name: name, SizeBytes: size, Label: label, Signatures: []string{}}
		for _, f := range found {
			item.Signatures = append(item.Signatures, f.Type)
			if item.Label == "" {
				item.Label = f.Label
			}
		}
		if always || len(found) > 0 {
			c.Items = append(c.Items, item)
		}
		c.Installation = c.Installation || strings.HasPrefix(item.Label, "COS_")
		return nil
	}
	if err := look(d.Name, d.Path, "", d.Size, false); err != nil {
		return c, err
	}
	for _, p := range d.Partitions {
		if err := look(p.Name, p.Path, p.Label, p.Size, true); err != nil {
			return c, err
		}
	}
	return c, nil
}

// signature is a signature that wipefs found. A GPT has several: its header, the copy
// at the end, and the protective MBR.
type signature struct {
	Type  string `json:"type"`
	Label string `json:"label"`
}

func signatures(ctx context.Context, r run.Runner, node string) ([]signature, error) {
	out, err := r.Output(ctx, "wipefs", "--no-act", "--json", node)
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(out))) == 0 {
		return nil, nil
	}
	var answer struct {
		Signatures []signature `json:"signatures"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("read the answer of wipefs: %w", err)
	}
	var distinct []signature
	seen := map[string]bool{}
	for _, found := range answer.Signatures {
		if !seen[found.Type] {
			seen[found.Type] = true
			distinct = append(distinct, found)
		}
	}
	return distinct, nil
}
