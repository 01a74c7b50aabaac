package medium

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// Live makes the disk image of a live medium of image v1: an ESP with the boot loader, COS_SEED
// without configs, and a store with one deployment on an ext4 partition COS_LIVE. kairos-upgrade makes the content of both, on
// this host, in directories.
func Live(ctx context.Context, set *images.Set, path string) error {
	work, err := os.MkdirTemp(filepath.Dir(path), "live-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	store, esp := filepath.Join(work, "store"), filepath.Join(work, "esp")
	for _, dir := range []string{store, esp} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	layout, version, _ := strings.Cut(strings.TrimPrefix(set.Ref("v1"), "oci:"), ":")
	stage := exec.CommandContext(ctx, Program("kairos-upgrade"),
		"stage", "--quiet", "--store", store, "--esp", esp, "--live", "oci:"+filepath.Base(layout)+":"+version)
	stage.Dir = filepath.Dir(layout) // the reference is recorded: it should not tell of this host's folders
	if _, err := workspace.Run(stage); err != nil {
		return fmt.Errorf("stage onto the live medium: %w", err)
	}
	if err := installBootLoader(set.Base, esp, "timeout 0\n"); err != nil {
		return err
	}
	size, err := roomFor(store, 64<<20)
	if err != nil {
		return fmt.Errorf("measure %s: %w", store, err)
	}
	return Write(ctx, path,
		Partition{Kind: "esp", Label: "LIVE_ESP", Format: "vfat", From: esp, Size: 256 << 20},
		Partition{Kind: "linux-generic", Label: "COS_SEED", Format: "vfat", Size: 16 << 20},
		Partition{Kind: "linux-generic", Label: "COS_LIVE", Format: "ext4", From: store, Size: size},
	)
}

// Program returns the path of a program that `make build` has built.
func Program(name string) string { return filepath.Join(workspace.Top(), "build", "bin", name) }
