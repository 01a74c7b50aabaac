package layout

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/bytesize"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// SystemDefinitions are the directories of definitions. Of files with the same name the
// one in the first directory is used; all drop-ins are used.
var SystemDefinitions = []string{"/run/kairos/repart.d", "/etc/kairos/repart.d", buildinfo.LibDir + "/repart.d"}

// Repart runs systemd-repart.
type Repart struct {
	Runner      run.Runner
	Definitions []string // directories, the preferred one first
}

// Partition is a partition that systemd-repart will create.
type Partition struct {
	Label  string `json:"label"`
	Type   string `json:"type"` // systemd's name of the type
	Node   string `json:"node"` // /dev/vda1
	Number int    `json:"partno"`
	UUID   string `json:"uuid"`
	Offset int64  `json:"offset"`   // bytes
	Size   int64  `json:"raw_size"` // bytes
	File   string `json:"file"`     // file name of the definition
}

// Table is a planned partition table.
type Table struct {
	Partitions []Partition
	Size       int64 // of the disk, in bytes
}

// Minimum returns the table of the smallest disk on which the definitions fit. It needs
// an empty directory for a sparse file.
func (r Repart) Minimum(ctx context.Context, dir string) (Table, error) {
	file := filepath.Join(dir, "minimum.img")
	if err := os.WriteFile(file, make([]byte, bytesize.MiB), 0o600); err != nil {
		return Table{}, fmt.Errorf("compute the smallest disk: %w", err)
	}
	defer os.Remove(file)
	table, err := r.ask(ctx, "--size=auto", file)
	if err != nil {
		return Table{}, fmt.Errorf("compute the smallest disk: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return Table{}, fmt.Errorf("compute the smallest disk: %w", err)
	}
	table.Size = info.Size()
	return table, nil
}

// Plan returns the table that a disk would get, without writing.
func (r Repart) Plan(ctx context.Context, node string, size int64) (Table, error) {
	table, err := r.ask(ctx, node)
	if err != nil {
		return Table{}, fmt.Errorf("plan the partitions of %s: %w", node, err)
	}
	table.Size = size
	return table, nil
}

// Argv returns the command that creates the partitions. The seed is random, since UUIDs
// must differ on every machine and every disk.
func (r Repart) Argv(node string) []string {
	return r.argv("--dry-run=no", node)
}

// Ext4Lazy are options of mke2fs(8) that leave out zeros: inode tables that are not
// used yet, which the kernel writes when it has time, and the journal, up to 1 GiB.
// What an earlier file system has left in its place is no record of this one: the
// checksum of each has the new file system's random UUID in it.
const Ext4Lazy = "lazy_itable_init=1,lazy_journal_init=1"

// Environment returns what systemd-repart makes file systems with. mke2fs takes the
// last -E alone; the first one is systemd-repart's, with nodiscard, since it has
// discarded the blocks itself.
func Environment() []string {
	return []string{"SYSTEMD_REPART_MKFS_OPTIONS_EXT4=-E nodiscard," + Ext4Lazy}
}

func (r Repart) argv(args ...string) []string {
	argv := []string{"systemd-repart", "--empty=force", "--seed=random"}
	for _, d := range r.Definitions {
		argv = append(argv, "--definitions="+d)
	}
	return append(argv, args...)
}

func (r Repart) ask(ctx context.Context, args ...string) (Table, error) {
	out, err := r.Runner.Output(ctx, r.argv(append([]string{"--dry-run=yes", "--json=short", "--no-pager"}, args...)...)...)
	if err != nil {
		return Table{}, err
	}
	table, err := parse(out)
	if err != nil {
		return Table{}, fmt.Errorf("read the answer of systemd-repart: %w", err)
	}
	if len(table.Partitions) == 0 {
		return Table{}, fmt.Errorf("no partition definitions in %s", strings.Join(r.Definitions, ", "))
	}
	return table, nil
}

// parse parses the output of systemd-repart --json=short.
func parse(data []byte) (Table, error) {
	var table Table
	if err := json.Unmarshal(data, &table.Partitions); err != nil {
		return Table{}, err
	}
	for i := range table.Partitions {
		table.Partitions[i].Number++ // it counts from 0, kernels from 1
	}
	return table, nil
}

// Find returns the partition with a label.
func (t Table) Find(label string) (Partition, bool) {
	i := slices.IndexFunc(t.Partitions, func(p Partition) bool { return p.Label == label })
	if i < 0 {
		return Partition{}, false
	}
	return t.Partitions[i], true
}

// Check returns an error if the table doesn't suit an image: a partition is missing,
// exists twice, or is smaller than the image needs.
func (t Table) Check(b Bounds) error {
	need := map[string]int64{
		disk.LabelESP: b.ESP, disk.LabelOEM: 1, disk.LabelRecovery: b.RecoveryMin,
		disk.LabelState: b.StateMin, disk.LabelPersistent: 1,
	}
	var wrong []string
	for _, label := range []string{disk.LabelESP, disk.LabelOEM, disk.LabelRecovery, disk.LabelState, disk.LabelPersistent} {
		var sizes []int64
		for _, p := range t.Partitions {
			if p.Label == label {
				sizes = append(sizes, p.Size)
			}
		}
		switch {
		case len(sizes) == 0:
			wrong = append(wrong, fmt.Sprintf("no partition is labelled %s", label))
		case len(sizes) > 1:
			wrong = append(wrong, fmt.Sprintf("%d partitions are labelled %s", len(sizes), label))
		case sizes[0] < need[label]:
			wrong = append(wrong, fmt.Sprintf("%s would have %s, this image needs %s", label, terminal.Bytes(sizes[0]), terminal.Bytes(need[label])))
		}
	}
	if p, ok := t.Find(disk.LabelESP); ok && p.Type != "esp" {
		wrong = append(wrong, fmt.Sprintf("%s has the type %s instead of esp: the firmware would not find it", p.Label, p.Type))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("partition definitions: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// Sum explains how the size of a table adds up.
func (t Table) Sum() string {
	var terms []string
	rest := t.Size
	for _, p := range t.Partitions {
		terms = append(terms, p.Label+" "+terminal.Bytes(p.Size))
		rest -= p.Size
	}
	if rest > 0 {
		terms = append(terms, "partition table "+terminal.Bytes(rest))
	}
	return strings.Join(terms, " + ") + " = " + terminal.Bytes(t.Size)
}
