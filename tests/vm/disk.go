package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// CreateDisk makes an empty disk of size bytes, which takes space only as it is written.
func CreateDisk(ctx context.Context, path string, size int64) error {
	_, err := workspace.RunTool(ctx, "qemu-img", "create", "-q", "-f", "qcow2", path, strconv.FormatInt(size, 10))
	return err
}

// CreateOverlay makes a disk that begins as the disk base is, "raw" or "qcow2", and leaves base as it
// is. An overlay that is there already is replaced.
func CreateOverlay(ctx context.Context, path, base, format string) error {
	_, err := workspace.RunTool(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", base, path)
	return err
}

// Copy gives a machine that is to run in folder to what the one in folder from, which must be off,
// has: firmware variables and the TPM's state. Disks are not among it.
func Copy(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"vars.fd", "tpm"} {
		cmd := exec.CommandContext(ctx, "cp", "-a", filepath.Join(from, name), to)
		if _, err := workspace.Run(cmd); err != nil {
			return fmt.Errorf("copy machine %s: %w", filepath.Base(from), err)
		}
	}
	return nil
}
