package initrd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/efivars"
)

// describe returns the description of the booted system from the kernel command line,
// the boot loader's variables and the store's records. Only the first is required.
func (i *Initrd) describe(store *os.Root, part disk.Partition) (deployment.Booted, error) {
	mode, err := i.Args.Mode()
	if err != nil {
		return deployment.Booted{}, err
	}
	b := deployment.Booted{
		Mode: mode, Store: i.Args.Store, ImageDigest: "sha256:" + i.Args.Image, Verity: i.Args.Verity,
		Device: part.Path, Disk: part.Disk, ESP: i.esp(part.Disk), BootID: strings.TrimSpace(i.BootID),
	}
	vars := i.Finder.System.Vars
	if selected, err := vars.EntrySelected(); err == nil {
		b.Entry = bls.BaseOf(selected)
	}
	records := deployment.ReadAll(store)
	if records.Unreadable != nil {
		i.Log.Warn("read deployment records", "error", records.Unreadable)
	}
	identify(&b, records.Readable)
	entries, err := vars.Entries()
	if err != nil && !errors.Is(err, efivars.ErrNotSet) {
		i.Log.Warn("read boot entries", "error", err)
	}
	if b.Mode == deployment.Active && isPassive(b.ID, entries, records.Readable) {
		b.Mode = deployment.Passive
	}
	return b, nil
}

// identify sets the fields about the deployment: that of the boot entry if it has this
// image (the variable is stale after kexec), otherwise the newest one of this image.
func identify(b *deployment.Booted, records []deployment.Record) {
	if id, ok := deployment.IDOfEntry(b.Entry); ok {
		if serial, err := deployment.ParseID(id); err == nil && id == deployment.NewID(serial, b.ImageDigest) {
			b.ID = id
		}
	}
	for n := len(records) - 1; n >= 0; n-- {
		r := records[n]
		if r.ImageDigest != b.ImageDigest || b.ID != "" && r.ID != b.ID {
			continue
		}
		b.ID, b.ManifestDigest, b.Reference, b.Version = r.ID, r.ManifestDigest, r.Reference, r.Version
		return
	}
}

// isPassive reports whether there is a newer deployment than the booted one: with an
// entry in the boot menu or, where the boot loader does not list its entries, with a
// record.
func isPassive(id string, entries []string, records []deployment.Record) bool {
	booted, err := deployment.ParseID(id)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if other, ok := deployment.IDOfEntry(bls.BaseOf(e)); ok {
			if serial, err := deployment.ParseID(other); err == nil && serial > booted {
				return true
			}
		}
	}
	if len(entries) > 0 {
		return false
	}
	for _, r := range records {
		if r.Serial > booted {
			return true
		}
	}
	return false
}

// esp returns the partition UUID of the ESP: the one from which the boot loader was
// started, or that of the store's disk.
func (i *Initrd) esp(diskName string) string {
	if uuid, err := i.Finder.System.Vars.DevicePartUUID(); err == nil {
		return uuid
	}
	part, err := i.Finder.FindOn(diskName, disk.LabelESP)
	if errors.Is(err, disk.ErrNotFound) && i.Args.Store == disk.LabelLive {
		return "" // nothing on a medium is ever written
	}
	if err != nil {
		i.Log.Warn("no ESP: it will not be mounted", "error", err)
		return ""
	}
	return part.UUID
}

// announce writes the files for other programs: booted.json, the sentinel files that
// Kairos' configs test for, the mount units of the ESP, and systemd's settings for a
// node.
func (i *Initrd) announce(b deployment.Booted) error {
	cos := filepath.Join(i.Run, "cos")
	if err := os.MkdirAll(cos, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(cos, string(b.Mode)+"_mode"), []byte("1"), 0o644); err != nil {
		return err
	}
	if err := i.writeUnits(b.ESP); err != nil {
		return err
	}
	if err := i.writeNodeSettings(); err != nil {
		return fmt.Errorf("write systemd's settings of a node: %w", err)
	}
	if err := i.writeJSON("booted.json", b); err != nil {
		return fmt.Errorf("write %s: %w", deployment.BootedPath, err)
	}
	i.Log.Info("mounted the root", "deployment", b.ID, "mode", string(b.Mode), "image", b.ImageDigest, "verity", b.Verity)
	return nil
}
