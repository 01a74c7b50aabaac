package medium

import (
	"context"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// Live makes the disk image of a live medium of image v1, as kairos-media makes it for everybody:
// without root or loop devices.
func Live(ctx context.Context, set *images.Set, path string) error {
	if err := kairosMedia(ctx, "build", "--quiet", "--firmware", "uefi", "--file", path, set.Ref("v1")); err != nil {
		return err
	}
	return os.Remove(path + ".manifest.json")
}

// kairosMedia runs kairos-media in the tools root, which has the programs that it needs.
func kairosMedia(ctx context.Context, arg ...string) error {
	program := Program("kairos-media")
	argv := append([]string{"PATH=" + filepath.Dir(program) + ":/usr/sbin:/usr/bin:/sbin:/bin", program}, arg...)
	_, err := workspace.RunTool(ctx, "env", argv...)
	return err
}

// Program returns the path of a program that `make build` has built.
func Program(name string) string { return filepath.Join(workspace.Top(), "build", "bin", name) }
