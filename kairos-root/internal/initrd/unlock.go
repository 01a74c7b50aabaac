package initrd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"

	"github.com/kairos-io/toolkit/kairos-root/internal/blockfs"
)

// unlockLimit is how long unlocking may take, while a person searches for the recovery
// key: a little longer than the timeout of kairos-crypt-unlock@.service.
const unlockLimit = 16 * time.Minute

// unlocked returns the device with a partition's file system: the partition, or the
// mapping that kairos-crypt creates for an encrypted one. systemd runs kairos-crypt, so
// that it has its own unit and log.
func (i *Initrd) unlocked(ctx context.Context, label, partition string) (string, error) {
	_, err := blockfs.Probe(partition)
	locked := errors.Is(err, blockfs.ErrLocked)
	if err := i.belongs(label, partition, locked); err != nil {
		return "", err
	}
	if !locked {
		return partition, nil // what else is wrong shows when it is mounted
	}
	i.awaitTPM(ctx)
	unit := "kairos-crypt-unlock@" + label + ".service"
	i.Status("Unlocking %s", label)
	i.Extend(unlockLimit)
	output, status, err := i.Execute(ctx, "systemctl", "start", unit)
	if err == nil && status != 0 {
		err = errors.New(strings.TrimSpace(output))
	}
	if err != nil {
		return "", fmt.Errorf("start %s: %w", unit, err)
	}
	return filepath.Join(i.Finder.System.Dev, "mapper", label), nil
}

// ErrForeign says that a partition does not hold the node's volume.
var ErrForeign = errors.New("not the encrypted volume that belongs to this node")

// belongs returns ErrForeign if a partition holds something else than the encrypted
// volume that the boot entry names for it. An attacker may have written such content:
// it is not mounted, and no command in it is run.
func (i *Initrd) belongs(label, partition string, locked bool) error {
	want, known := i.Args.Volumes[label]
	switch {
	case !known && locked:
		i.Log.Warn("encrypted, but the boot entry does not say which volume belongs here: the next staging adds it", "label", label)
		return nil
	case !known:
		return nil
	}
	have, err := disk.Volume(partition)
	switch {
	case err != nil:
		return err
	case disk.SameVolume(have, want):
		return nil
	case have == "":
		err = fmt.Errorf("%s holds no encrypted volume: %w (%s)", partition, ErrForeign, want)
	default:
		err = fmt.Errorf("%s holds the volume %q: %w (%s)", partition, have, ErrForeign, want)
	}
	return exit.Hint(err, "the disk was changed; if that was intended, kairos-upgrade stage --crypt %s:UUID accepts the new volume", label)
}

// foreign reports a foreign volume to programs (booted.json) and to people, on the
// console whatever the kernel's log level is.
func (i *Initrd) foreign(r *Report, label string, err error) {
	if !errors.Is(err, ErrForeign) {
		return
	}
	r.Booted.Foreign = strings.TrimSpace(r.Booted.Foreign + " " + label)
	// Priority 2, critical. Without a kernel's log the journal has it.
	if kmsg, kerr := os.OpenFile(i.Kmsg, os.O_WRONLY|os.O_APPEND, 0); kerr == nil {
		fmt.Fprintf(kmsg, "<2>kairos-root: %s is not used: %v\n", label, err)
		kmsg.Close()
	}
}

// awaitTPM waits for the driver of a TPM that the firmware reports: otherwise a boot
// that is faster than the driver would ask for the recovery key. A TPM that does not
// appear counts as none.
func (i *Initrd) awaitTPM(ctx context.Context) {
	if _, err := os.Stat(filepath.Join(i.Finder.System.Sys, "firmware/acpi/tables/TPM2")); err != nil {
		return
	}
	wait, cancel := i.waiting(ctx)
	defer cancel()
	if _, err := i.Finder.FindSource(wait, "/dev/tpmrm0"); err != nil {
		i.Log.Warn("the firmware has a TPM, but no driver for it was loaded: check the initrd")
	}
}
