// Package settings reads the key "install" of a node's cloud-config, in Kairos' format.
package settings

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-install/internal/bytesize"
	"github.com/kairos-io/toolkit/kairos-install/internal/layout"
	"github.com/kairos-io/toolkit/kairos-install/internal/plan"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/nodeconfig"
	"github.com/kairos-io/toolkit/lib/run"
)

// Settings holds the key "install".
type Settings struct {
	Device     string // "auto", a device, or "" when not set
	Source     string // image source, in kairos-upgrade's spelling
	Auto       bool   // install without a question: consent to erase the disk
	Force      bool   // consent to erase an existing installation as well
	Reboot     bool
	Poweroff   bool
	Kargs      []string
	Partitions layout.Overrides
	Encrypt    []string // labels of partitions to encrypt
	// Recovery is the image of the recovery system, "" for the installed image.
	Recovery string
	Title    string   // of the boot entries, "" for that of the image
	Env      []string // NAME=VALUE, for hooks
	// NoUsers is consent to a node to which nobody can log in.
	NoUsers bool
	// Ignored are keys without effect.
	Ignored []string
}

// Load gets the settings from kairos-config: from the node's configs and the given
// files. Without kairos-config, or without a config, nothing is set.
func Load(ctx context.Context, r run.Runner, files []string) (Settings, error) {
	value, err := nodeconfig.Get(ctx, r, files, "install")
	if err != nil {
		return Settings{}, err
	}
	s, err := Parse(value)
	if err != nil {
		return Settings{}, fmt.Errorf("read the node's config: %w", err)
	}
	whole, err := nodeconfig.Get(ctx, run.Runner{}, files, ".") // what there is to warn of has been told
	if failed := (*run.Error)(nil); errors.As(err, &failed) && failed.Status == exit.Usage {
		return s, nil // one that only knows single keys
	}
	if err == nil {
		err = s.addWhole(whole, value != nil)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("read the node's config: %w", err)
	}
	return s, nil
}

// document is the key "install" as Kairos defines it.
type document struct {
	Device      string            `json:"device"`
	Source      string            `json:"source"`
	Image       string            `json:"image"` // its old name
	Auto        bool              `json:"auto"`
	Force       bool              `json:"force"`
	Reboot      bool              `json:"reboot"`
	Poweroff    bool              `json:"poweroff"`
	System      image             `json:"system"`
	Recovery    image             `json:"recovery-system"`
	Title       string            `json:"grub-entry-name"`
	Env         []string          `json:"env"`
	NoUsers     bool              `json:"nousers"`
	GrubOptions map[string]string `json:"grub_options"`
	Partitions  struct {
		OEM        partition `json:"oem"`
		Recovery   partition `json:"recovery"`
		State      partition `json:"state"`
		Persistent partition `json:"persistent"`
	} `json:"partitions"`
	Extra     []extraPartition `json:"extra-partitions"`
	NoFormat  bool             `json:"no-format"`
	Encrypted []string         `json:"encrypted_partitions"`
}

// image is an image as Kairos defines it.
type image struct {
	Source string `json:"source"`
	URI    string `json:"uri"` // its old name
	Size   *int64 `json:"size"`
}

func (i image) reference() string { return reference(cmp.Or(i.Source, i.URI)) }

type partition struct {
	Size int64  `json:"size"` // MiB, 0: the rest or the default
	FS   string `json:"fs"`
}

func (p partition) override() layout.Override {
	return layout.Override{Size: mebibytes(p.Size), Format: p.FS}
}

// mebibytes converts MiB to bytes. It saturates, so that an impossible size stays
// impossible.
func mebibytes(n int64) int64 { return min(n, 1<<40) * bytesize.MiB }

type extraPartition struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	Size  int64  `json:"size"` // MiB
	FS    string `json:"fs"`
}

// used are the keys that have an effect.
var used = []string{"device", "source", "auto", "force", "reboot", "poweroff", "system", "grub_options",
	"partitions", "extra-partitions", "no-format", "encrypted_partitions", "image", "recovery-system", "grub-entry-name",
	"env", "nousers"}

// ofTheNode are keys that kairos-config(8) reads at each boot, from the config on
// COS_OEM.
var ofTheNode = []string{"bind_mounts", "ephemeral_mounts", "ssh_hardening", "bundles"}

// Parse parses the value of "install" as JSON.
func Parse(data []byte) (Settings, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return Settings{}, nil
	}
	var doc document
	var keys map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(data, &doc), json.Unmarshal(data, &keys)); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return Settings{}, fmt.Errorf("install.%s: a %s where another type is expected", wrong.Field, wrong.Value)
		}
		return Settings{}, fmt.Errorf("install: %w", err)
	}
	s := Settings{
		Device: doc.Device, Source: doc.Source, Auto: doc.Auto, Force: doc.Force,
		Reboot: doc.Reboot, Poweroff: doc.Poweroff && !doc.Reboot, // of both, Kairos reboots
		Partitions: layout.Overrides{
			OEM: doc.Partitions.OEM.override(), Recovery: doc.Partitions.Recovery.override(),
			State: doc.Partitions.State.override(), Persistent: doc.Partitions.Persistent.override(),
		},
		Encrypt: doc.Encrypted,
	}
	s.Source = reference(cmp.Or(s.Source, doc.System.reference(), doc.Image))
	s.Recovery, s.Title, s.Env, s.NoUsers = doc.Recovery.reference(), doc.Title, doc.Env, doc.NoUsers
	s.Kargs = words(doc.GrubOptions["extra_cmdline"])
	for _, e := range doc.Extra {
		s.Partitions.Extra = append(s.Partitions.Extra, layout.Extra{
			Name: cmp.Or(e.Name, e.Label), Label: cmp.Or(e.Label, e.Name), Size: mebibytes(e.Size), Format: e.FS,
		})
	}
	for key := range keys {
		if !slices.Contains(used, key) && !slices.Contains(ofTheNode, key) {
			s.Ignored = append(s.Ignored, "install."+key)
		}
	}
	for key := range doc.GrubOptions {
		if key != "extra_cmdline" {
			s.Ignored = append(s.Ignored, "install.grub_options."+key)
		}
	}
	if doc.System.Size != nil {
		s.Ignored = append(s.Ignored, "install.system.size")
	}
	slices.Sort(s.Ignored)
	return s, s.check(doc)
}

// check returns an error for settings that would install another system than the config
// describes.
func (s Settings) check(doc document) error {
	if doc.NoFormat {
		return errors.New("install.no-format: installing on existing partitions is not supported")
	}
	if err := plan.CheckLabels(s.Encrypt); err != nil {
		return fmt.Errorf("install.encrypted_partitions: %w", err)
	}
	formats := map[string]string{disk.LabelOEM: s.Partitions.OEM.Format, disk.LabelPersistent: s.Partitions.Persistent.Format}
	for _, e := range s.Partitions.Extra {
		formats[e.Name], formats[e.Label] = e.Format, e.Format
	}
	for _, label := range s.Encrypt {
		if format := formats[label]; format != "" && format != "ext4" {
			return fmt.Errorf("install.encrypted_partitions: %s: the file system in an encrypted partition is ext4, not %s", label, format)
		}
	}
	if err := s.Partitions.Check(); err != nil {
		return fmt.Errorf("install.partitions: %w", err)
	}
	return nil
}

// reference converts the one spelling of an image source that only Kairos has;
// kairos-upgrade understands the others.
func reference(source string) string {
	if rest, ok := strings.CutPrefix(source, "ocifile:"); ok {
		return "file:" + strings.TrimPrefix(rest, "//")
	}
	return source
}

// words splits kernel arguments at blanks outside of double quotes, and keeps the
// quotes for the kernel.
func words(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\r\n", r)
	})
}
