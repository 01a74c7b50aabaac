package initrd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-root/internal/blockfs"
)

// unlockLimit is how long unlocking may take: somebody may have to find the
// recovery key. It is that of kairos-crypt-unlock@.service, and a little more.
const unlockLimit = 16 * time.Minute

// unlocked returns the device that a partition's file system is on: the
// partition, or, where that is encrypted, what kairos-crypt maps it as. systemd
// runs kairos-crypt, so that it has a unit and a log of its own.
func (i *Initrd) unlocked(ctx context.Context, label, partition string) (string, error) {
	if _, err := blockfs.Probe(partition); !errors.Is(err, blockfs.ErrLocked) {
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
		i.Log.Warn("the firmware has a TPM, but no driver took it: is it in the initrd?")
	}
}
