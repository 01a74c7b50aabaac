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

// unlockLimit is how long unlocking may take: somebody may have to find the
// recovery key. It is that of kairos-crypt-unlock@.service, and a little more.
const unlockLimit = 16 * time.Minute

// unlocked returns the device that a partition's file system is on: the
// partition, or, where that is encrypted, what kairos-crypt maps it as. systemd
// runs kairos-crypt, so that it has a unit and a log of its own.
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

// ErrForeign says that what is on a partition is not the volume that belongs to
// this node.
var ErrForeign = errors.New("not the encrypted volume that belongs to this node")

// belongs refuses what is on a partition of which the boot entry says that it
// holds an encrypted volume, and which: the entry was made when the node was sure
// of it. What came there since may be anybody's, and nothing that it says is
// believed: it isn't mounted, and no command in it is run.
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

// foreign tells of a volume that doesn't belong here, where programs see it
// (booted.json) and where people may: on the console, whatever the kernel is told
// to keep quiet about.
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

// awaitTPM waits for the driver of a TPM that the firmware has told of: without
// it somebody would be asked for the recovery key because of a moment. A TPM that
// does not come is none.
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
