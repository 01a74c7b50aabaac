// Package medium makes disk images from directories, without loop devices, device nodes or anything
// else of the kernel: systemd-repart partitions a file and fills it by mkfs.ext4 -d and mtools.
package medium

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// Partition is a partition with a copy of a directory, or with an empty file system.
type Partition struct {
	Kind   string // repart.d(5) Type=: "esp", "linux-generic"
	Label  string // of the partition and of the file system
	Format string // "vfat", "ext4"
	From   string // directory; none if empty
	Size   int64  // bytes
}

// seed makes partition and file system identifiers the same on each build.
const seed = "b6e8a1f0-5c0d-4e0c-9a63-6b1f7f5f8a01"

// Write makes the disk image path. It is as large as its partitions, and sparse.
func Write(ctx context.Context, path string, partitions ...Partition) error {
	definitions, err := os.MkdirTemp("", "kairos-medium-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(definitions)
	for i, p := range partitions {
		name := filepath.Join(definitions, fmt.Sprintf("%d.conf", i))
		text := fmt.Sprintf("[Partition]\nType=%s\nLabel=%s\nFormat=%s\nSizeMinBytes=%d\nSizeMaxBytes=%[4]d\n",
			p.Kind, p.Label, p.Format, p.Size)
		if p.From != "" {
			text += "CopyFiles=" + p.From + ":/\n"
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	_, err = workspace.RunTool(ctx, "systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no",
		"--sector-size=512", // else vfat gets sectors of 4096 bytes, which no firmware reads from this disk
		"--seed="+seed, "--definitions="+definitions, "--no-pager", path)
	if err != nil {
		return fmt.Errorf("make the disk image %s: %w", path, err)
	}
	return nil
}

// roomFor returns a size of an ext4 file system that holds what is in dir, with free bytes besides.
func roomFor(dir string, free int64) (int64, error) {
	var used, files int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		used += stat.Blocks * 512
		files++
		return nil
	})
	// Inodes, their tables and directories are counted by the file; the journal and the rest by share.
	size := used + files*512 + used/10 + 64<<20 + free
	return size &^ (1<<20 - 1), err
}

// installBootLoader puts systemd-boot of the tree root on the ESP, where firmware finds it without
// an entry of its own.
func installBootLoader(root, esp, conf string) error {
	loader, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/boot/efi/systemd-bootx64.efi"))
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI": loader,
		"loader/loader.conf":   []byte(conf),
	}
	for name, data := range files {
		path := filepath.Join(esp, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// lines joins the lines of a small text file.
func lines(line ...string) []byte { return []byte(strings.Join(line, "\n") + "\n") }
