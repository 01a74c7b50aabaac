package medium

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/tests/images"
)

// Plain makes a disk with the same root file system as image v1 has, on ext4, mounted writable by a
// plain dracut initrd: what a node's boot time is compared with.
func Plain(ctx context.Context, set *images.Set, path string) error {
	work, err := os.MkdirTemp(filepath.Dir(path), "plain-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	root := filepath.Join(work, "root")
	if err := set.Unpack(ctx, "v1", root); err != nil {
		return err
	}
	return PlainTree(ctx, set, root, path)
}

// PlainTree makes a disk that boots the tree root in that way. The tree has the kernel of the images.
func PlainTree(ctx context.Context, set *images.Set, root, path string) error {
	work, err := os.MkdirTemp(filepath.Dir(path), "plain-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	esp := filepath.Join(work, "esp")
	initrd, err := set.PlainInitrd(ctx, root)
	if err != nil {
		return err
	}
	if err := installBootLoader(root, esp, "timeout 0\n"); err != nil {
		return err
	}
	kernel, err := os.ReadFile(filepath.Join(root, "usr/lib/modules", set.Kernel, "vmlinuz"))
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"plain/linux":  kernel,
		"plain/initrd": initrd,
		"loader/entries/plain.conf": lines("title Plain", "linux /plain/linux", "initrd /plain/initrd",
			"options root=LABEL=PLAIN rw console=ttyS0,115200 systemd.show_status=yes mitigations=off"),
	}
	for name, data := range files {
		file := filepath.Join(esp, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	size, err := roomFor(root, 256<<20)
	if err != nil {
		return fmt.Errorf("measure %s: %w", root, err)
	}
	return Write(ctx, path,
		Partition{Kind: "esp", Label: "PLAIN_ESP", Format: "vfat", From: esp, Size: 256 << 20},
		Partition{Kind: "linux-generic", Label: "PLAIN", Format: "ext4", From: root, Size: size},
	)
}
