package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// BootCodeDir is where, on the ESP, a medium's boot code is left for kairos-media,
// under the paths that it has in the image.
const BootCodeDir = "boot-code"

// bootCode are directories of an image with what firmware starts, and limits of
// what is taken of them.
var bootCode = []string{"usr/lib/systemd/boot/efi", "usr/lib/grub/i386-pc"}

const (
	maxBootCodeFiles = 2000
	maxBootCodeBytes = 64 << 20
)

// copyBootCode copies the regular files of those directories. An image without
// them is no error: kairos-media says what it lacks.
func (n *Node) copyBootCode(ctx context.Context, root *tree.Inode) error {
	if err := n.Store.Commit(ctx); err != nil {
		return err
	}
	files, bytes := 0, int64(0)
	for _, dir := range bootCode {
		from := root.Find(dir)
		if from == nil || !from.IsDir() {
			continue
		}
		to := path.Join(BootCodeDir, dir)
		if err := n.Medium.MkdirAll(to, 0o755); err != nil {
			return fmt.Errorf("copy boot code: %w", err)
		}
		for name, node := range from.Children() {
			if !node.IsRegular() {
				continue
			}
			if files, bytes = files+1, bytes+node.Size; files > maxBootCodeFiles || bytes > maxBootCodeBytes {
				return fmt.Errorf("copy boot code: /%s has more than %d files or %d MiB", dir, maxBootCodeFiles, maxBootCodeBytes>>20)
			}
			if err := n.copyOut(path.Join(to, name), node); err != nil {
				return fmt.Errorf("copy boot code: %w", err)
			}
		}
	}
	return ctx.Err()
}

func (n *Node) copyOut(to string, node *tree.Inode) error {
	in, err := contentIn(n.Store)(node)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := n.Medium.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
