package layout

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/kairos-io/toolkit/kairos-install/internal/bytesize"
	"github.com/kairos-io/toolkit/lib/disk"
)

// File names of the shipped definitions, which have drop-ins.
const (
	espFile        = "10-esp.conf"
	oemFile        = "20-oem.conf"
	recoveryFile   = "30-recovery.conf"
	stateFile      = "40-state.conf"
	persistentFile = "50-persistent.conf"
)

// Override is the part of a node's config about one of the standard partitions.
type Override struct {
	Size   int64  // bytes, 0: not set
	Format string // file system, "": not set
}

// Overrides is the part of a node's config about the standard partitions.
type Overrides struct {
	OEM, Recovery, State, Persistent Override
	Extra                            []Extra
}

// Extra is an additional partition from a node's config.
type Extra struct {
	Name   string // partition label
	Label  string // file system label
	Size   int64  // bytes
	Format string
}

var (
	labelForm  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,36}$`)
	formatForm = regexp.MustCompile(`^[a-z0-9]{2,12}$`)
)

// Check returns an error for settings that cannot work: invalid labels, file systems
// that cannot hold a store, partitions without a size.
func (o Overrides) Check() error {
	for name, p := range map[string]Override{"oem": o.OEM, "recovery": o.Recovery, "state": o.State, "persistent": o.Persistent} {
		if p.Size < 0 {
			return fmt.Errorf("partition %s: size %d", name, p.Size)
		}
		if p.Format != "" && !formatForm.MatchString(p.Format) {
			return fmt.Errorf("partition %s: file system %q: not a name", name, p.Format)
		}
	}
	for name, p := range map[string]Override{"recovery": o.Recovery, "state": o.State} {
		if p.Format != "" && !slices.Contains([]string{"ext4", "btrfs"}, p.Format) {
			return fmt.Errorf("partition %s: file system %s: a store needs fs-verity, which ext4 and btrfs have", name, p.Format)
		}
	}
	labels := map[string]bool{}
	for _, label := range []string{disk.LabelESP, disk.LabelOEM, disk.LabelRecovery, disk.LabelState, disk.LabelPersistent} {
		labels[label] = true
	}
	for i, e := range o.Extra {
		switch {
		case !labelForm.MatchString(e.Name):
			return fmt.Errorf("extra partition %q: not a label (letters, digits, _ . -, at most 36)", e.Name)
		case !labelForm.MatchString(e.label()):
			return fmt.Errorf("extra partition %s: file system label %q: not a label (letters, digits, _ . -, at most 36)", e.Name, e.label())
		case labels[e.Name], labels[e.label()]:
			return fmt.Errorf("extra partition %s: another partition has its label", e.Name)
		case e.Size == 0 && o.Persistent.Size == 0:
			return fmt.Errorf("extra partition %s: it needs a size: COS_PERSISTENT takes the rest, unless install.partitions.persistent has a size", e.Name)
		case e.Size == 0 && i != len(o.Extra)-1:
			return fmt.Errorf("extra partition %s: only the last one can take the rest", e.Name)
		case e.Size < 0:
			return fmt.Errorf("extra partition %s: size %d", e.Name, e.Size)
		case e.Format != "" && !formatForm.MatchString(e.Format):
			return fmt.Errorf("extra partition %s: file system %q: not a name", e.Name, e.Format)
		}
		labels[e.Name], labels[e.label()] = true, true
	}
	return nil
}

// WriteDropins writes definitions and drop-ins for systemd-repart into an existing
// directory, from the needs of the image and the node's config. They do not change a
// site's definitions under other names; Table.Check checks the result.
func WriteDropins(dir string, b Bounds, o Overrides) error {
	image := map[string]Bytes{
		recoveryFile: {b.RecoveryMin, b.RecoveryMax},
		stateFile:    {b.StateMin, b.StateMax},
	}
	if b.ESP > espDefault {
		image[espFile] = Bytes{b.ESP, b.ESP}
	}
	for file, size := range image {
		if err := dropin(dir, file, "50-image.conf", size, ""); err != nil {
			return err
		}
	}
	config := map[string]Override{oemFile: o.OEM, recoveryFile: o.Recovery, stateFile: o.State, persistentFile: o.Persistent}
	for file, p := range config {
		if p == (Override{}) {
			continue
		}
		if err := dropin(dir, file, "60-config.conf", Bytes{p.Size, p.Size}, p.Format); err != nil {
			return err
		}
	}
	for i, e := range o.Extra {
		// systemd-repart makes partitions in the order of the files' names. What
		// takes the rest stands behind COS_PERSISTENT, which has a size then.
		format, prefix := e.Format, "45"
		if e.label() != e.Name {
			format = "" // systemd-repart would call it like the partition
		}
		if e.Size == 0 {
			prefix = "55"
		}
		text := section(Bytes{e.Size, e.Size}, format) + fmt.Sprintf("Type=linux-generic\nLabel=%s\n", e.Name)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-extra-%02d-%s.conf", prefix, i, e.Name)), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write partition definition: %w", err)
		}
	}
	return nil
}

func (e Extra) label() string { return cmp.Or(e.Label, e.Name) }

// Bytes is a range of sizes; a 0 leaves that end to the definition.
type Bytes struct{ Min, Max int64 }

func dropin(dir, definition, name string, size Bytes, format string) error {
	where := filepath.Join(dir, definition+".d")
	if err := os.MkdirAll(where, 0o755); err != nil {
		return fmt.Errorf("write partition sizes: %w", err)
	}
	if err := os.WriteFile(filepath.Join(where, name), []byte(section(size, format)), 0o644); err != nil {
		return fmt.Errorf("write partition sizes: %w", err)
	}
	return nil
}

func section(size Bytes, format string) string {
	var b bytes.Buffer
	b.WriteString("[Partition]\n")
	if size.Min > 0 {
		fmt.Fprintf(&b, "SizeMinBytes=%d\n", bytesize.RoundUp(size.Min, 4*bytesize.KiB))
	}
	if size.Max > 0 {
		fmt.Fprintf(&b, "SizeMaxBytes=%d\n", bytesize.RoundUp(size.Max, 4*bytesize.KiB))
	}
	if format != "" {
		fmt.Fprintf(&b, "Format=%s\n", format)
	}
	return b.String()
}
