package medium

import (
	"context"
	"os/exec"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// CD copies a live medium to a file, and puts configs on its COS_SEED. The file is booted as a CD as well
// as a disk.
func CD(ctx context.Context, live, path string, seed ...string) error {
	if _, err := workspace.Run(exec.CommandContext(ctx, "cp", "--sparse=always", live, path)); err != nil {
		return err
	}
	argv := []string{"edit", "--quiet"}
	for _, file := range seed {
		argv = append(argv, "--config", file)
	}
	return kairosMedia(ctx, append(argv, path)...)
}
