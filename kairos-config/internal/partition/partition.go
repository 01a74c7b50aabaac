// Package partition adds partitions to a disk and grows its last one, through
// systemd-repart(8).
package partition

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/run"
)

// existing is a partition in the output of systemd-repart.
type existing struct {
	Type     string `json:"type"` // name or UUID
	Label    string `json:"label"`
	Node     string `json:"node"`
	Offset   int64  `json:"offset"`   // bytes
	Size     int64  `json:"raw_size"` // bytes, after the change
	Before   int64  `json:"old_size"` // bytes
	Activity string `json:"activity"` // unchanged, create, resize
}

// disk is the disk that is worked on.
type disk struct {
	root   string // root directory of the programs: the initrd lacks some
	device string
	layout schema.Layout
	parts  []existing
}

// Apply changes a disk of this machine to a layout, with the programs of a root that
// has the machine's /dev and /run, and returns the changes. A partition whose label
// exists is not added; no partition is shrunk, moved or removed. A disk without
// partition table gets one if the layout has init_disk, unless the disk holds a file
// system.
func Apply(ctx context.Context, root, device string, l schema.Layout) (changed []string, err error) {
	d := &disk{root: root, device: device, layout: l}
	empty := "refuse"
	if l.Device != nil && l.Device.InitDisk {
		empty = "allow"
		if kind := d.signature(ctx, device); kind != "" && kind != "gpt" && kind != "dos" {
			return nil, fmt.Errorf("%s carries %s: not overwritten", device, kind)
		}
	}
	// Without definitions systemd-repart up to 252 says nothing, unless so.
	if d.parts, err = d.repart(ctx, nil, "--dry-run=yes", "--empty=allow"); err != nil {
		return nil, err
	}
	slices.SortFunc(d.parts, func(a, b existing) int { return cmp.Compare(a.Offset, b.Offset) })
	definitions, work := d.definitions()
	if work {
		parts, err := d.repart(ctx, definitions, "--dry-run=no", "--empty="+empty)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			switch {
			case p.Activity == "create":
				changed = append(changed, "partition "+p.Label)
			case p.Activity == "resize" || p.Size > p.Before:
				changed = append(changed, "size of partition "+p.Label)
				err = errors.Join(err, d.grow(ctx, p.Node))
			}
		}
		d.parts = parts
		if err != nil {
			return changed, err
		}
	}
	made, err := d.formatOthers(ctx)
	return append(changed, made...), err
}

// label of a partition to add.
func label(p schema.Partition) string { return cmp.Or(p.PLabel, p.FSLabel) }

// definitions returns a repart.d(5) file for each existing partition, with its size,
// and for each to add: systemd-repart assigns definitions to existing partitions by
// type, in order.
func (d *disk) definitions() (files []string, work bool) {
	sizes := make([]int64, len(d.parts)) // that the partitions are to have; 0: all there is
	for i, p := range d.parts {
		sizes[i] = p.Size
	}
	files = make([]string, len(d.parts))
	var added []schema.Partition
	for _, p := range d.layout.Parts {
		if slices.ContainsFunc(d.parts, func(e existing) bool { return e.Label == label(p) && e.Label != "" }) {
			continue
		}
		added = append(added, p)
		sizes = append(sizes, int64(p.Size)<<20)
		work = true
	}
	if last := len(sizes) - 1; d.layout.Expand != nil && last >= 0 {
		want := int64(d.layout.Expand.Size) << 20
		if want == 0 || want > sizes[last] {
			work = work || want == 0 || sizes[last] != want
			sizes[last] = want
		}
	}
	for i, p := range d.parts {
		files[i] = "[Partition]\nType=" + p.Type + "\n" + sizeLines(p.Size, sizes[i])
	}
	for i, p := range added {
		files = append(files, d.addition(p, sizes[len(d.parts)+i]))
	}
	if last := len(files) - 1; last >= 0 && sizes[last] != 0 {
		// What is free stays behind the last one, which can grow into it.
		// systemd-repart would leave it before a partition that it adds.
		files[last] += "PaddingWeight=1000\n"
	}
	return files, work
}

func sizeLines(least, size int64) string {
	if size == 0 {
		return fmt.Sprintf("SizeMinBytes=%d\nWeight=1000\n", least)
	}
	return fmt.Sprintf("SizeMinBytes=%d\nSizeMaxBytes=%[1]d\n", size)
}

// leastSize of a partition that takes all there is, in bytes.
const leastSize = 1 << 20

func (d *disk) addition(p schema.Partition, size int64) string {
	kind := "linux-generic"
	if p.Filesystem == "swap" {
		kind = "swap"
	}
	text := "[Partition]\nType=" + kind + "\nLabel=" + strings.ReplaceAll(label(p), "%", "%%") + "\n" + sizeLines(leastSize, size)
	if fs := filesystem(p); sameLabels(p) {
		text += "Format=" + fs + "\n"
	}
	if p.Bootable {
		text += "Flags=0x4\n" // legacy BIOS bootable: UEFI specification, attributes of a GPT entry
	}
	return text
}

// filesystem returns the type of file system as mkfs names it.
func filesystem(p schema.Partition) string {
	switch p.Filesystem {
	case "":
		return "ext4"
	case "fat":
		return "vfat"
	}
	return p.Filesystem
}

// sameLabels reports whether systemd-repart can create the file system: it uses the
// partition's label for it.
func sameLabels(p schema.Partition) bool {
	return (p.FSLabel == "" || p.FSLabel == label(p)) && p.Filesystem != "ext2" && p.Filesystem != "ext3"
}

// formatOthers creates the file systems that systemd-repart can't, on partitions
// without one: also after a power cut between the two steps.
func (d *disk) formatOthers(ctx context.Context) (made []string, err error) {
	for _, p := range d.layout.Parts {
		i := slices.IndexFunc(d.parts, func(e existing) bool { return e.Label == label(p) })
		if i < 0 || sameLabels(p) || d.signature(ctx, d.parts[i].Node) != "" {
			continue
		}
		fs := filesystem(p)
		option := map[string]string{"vfat": "-n", "swap": "-L"}[fs]
		program := "mkfs." + fs
		if fs == "swap" {
			program = "mkswap"
		}
		if err := d.run(ctx, nil, program, cmp.Or(option, "-L"), cmp.Or(p.FSLabel, label(p)), d.parts[i].Node); err != nil {
			return made, err
		}
		made = append(made, "file system "+cmp.Or(p.FSLabel, label(p)))
	}
	return made, nil
}

// repart runs systemd-repart with definitions and returns the disk's partitions from
// its output.
func (d *disk) repart(ctx context.Context, definitions []string, args ...string) ([]existing, error) {
	place := "" // that the root sees as well
	if d.root != "/" {
		place = "/run"
	}
	dir, err := os.MkdirTemp(place, "kairos-repart-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for i, text := range definitions {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.conf", i)), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	args = append(args, "--no-pager", "--json=short", "--definitions="+dir, d.device)
	if err := d.run(ctx, &out, "systemd-repart", args...); err != nil {
		return nil, err
	}
	var parts []existing
	if out.Len() == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(out.Bytes(), &parts); err != nil {
		return nil, fmt.Errorf("systemd-repart: %w", err)
	}
	return parts, nil
}

// signature returns the content of a device: "ext4", "gpt", "" for unknown content.
func (d *disk) signature(ctx context.Context, device string) string {
	var out bytes.Buffer
	if err := d.run(ctx, &out, "blkid", "-p", "-o", "export", "--", device); err != nil {
		return "" // its exit status 2 is that there is nothing
	}
	kind := ""
	for line := range strings.Lines(out.String()) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "TYPE" || key == "PTTYPE" && kind == "" {
			kind = value
		}
	}
	return kind
}

// grow grows a file system to the size of its partition.
func (d *disk) grow(ctx context.Context, node string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == node {
			return d.run(ctx, nil, "/usr/lib/systemd/systemd-growfs", words[1])
		}
	}
	if kind := d.signature(ctx, node); !strings.HasPrefix(kind, "ext") {
		return nil // others grow when they are mounted
	}
	if err := d.run(ctx, nil, "e2fsck", "-f", "-p", node); err != nil {
		return err
	}
	return d.run(ctx, nil, "resize2fs", node)
}

// run runs a program; its error has the program's stderr.
func (d *disk) run(ctx context.Context, out *bytes.Buffer, name string, args ...string) error {
	said, err := run.Runner{Root: d.root}.Output(ctx, append([]string{name}, args...)...)
	if out != nil {
		out.Write(said)
	}
	return err
}
