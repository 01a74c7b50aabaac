package images

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/tree"
	"github.com/kairos-io/toolkit/tests/workspace"
)

//go:embed recipe/toolkit.sh
var toolkitScript string

// buildToolkit makes layer 2: what `make install` installs, and the initrd.
func buildToolkit(ctx context.Context, base base, report func(string)) (oci.Layer, error) {
	staging, err := os.MkdirTemp("", "kairos-toolkit-")
	if err != nil {
		return oci.Layer{}, err
	}
	defer os.RemoveAll(staging)
	install := exec.CommandContext(ctx, "make", "-s", "-C", workspace.Top(), "install", "DESTDIR="+staging)
	if _, err := workspace.Run(install); err != nil {
		return oci.Layer{}, err
	}
	content := sha256.New()
	if err := tree.WriteDiff(content, "", staging, epoch); err != nil {
		return oci.Layer{}, err
	}
	key := hashOf(base.layer.Digest.String(), hex.EncodeToString(content.Sum(nil)), toolkitScript)
	dir, err := cached("toolkit-"+key, func(dir string) error {
		report("installing the toolkit and making the initrd (dracut)")
		return derive(ctx, dir, "toolkit", base.tree, func(root string) error {
			if err := copyTree(ctx, staging, root); err != nil {
				return err
			}
			return chroot(ctx, root, toolkitScript)
		})
	})
	if err != nil {
		return oci.Layer{}, fmt.Errorf("build the toolkit layer: %w", err)
	}
	return oci.OpenLayer(filepath.Join(dir, "layer"))
}

// derive makes the layer that a change to a copy of the tree lower amounts to.
func derive(ctx context.Context, dir, title, lower string, change func(root string) error) error {
	root := filepath.Join(dir, "tree")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := copyTree(ctx, lower, root); err != nil {
		return err
	}
	if err := change(root); err != nil {
		return err
	}
	_, err := oci.CreateLayer(filepath.Join(dir, "layer"), title, func(w io.Writer) error {
		return tree.WriteDiff(w, lower, root, epoch)
	})
	return err
}

// copyTree copies what is in from into the directory to, with owners, times and attributes.
func copyTree(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", from+"/.", to)
	_, err := workspace.Run(cmd)
	return err
}

// chrootScript mounts what programs in a tree expect, in the private mount namespace of the tools
// root, and enters the tree.
const chrootScript = `
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
exec chroot "$1" /bin/sh
`

// chroot runs a shell script inside the tree root, as a container build would.
func chroot(ctx context.Context, root, script string) error {
	_, err := enter(ctx, root, script)
	return err
}

func enter(ctx context.Context, root, script string) (string, error) {
	cmd := workspace.Tool(ctx, "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "INITRD=No",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()),
		"unshare", "--mount", "sh", "-euc", chrootScript, "sh", root)
	cmd.Env = append(os.Environ(), "KAIROS_TOOLS_TMP=own")
	cmd.Stdin = strings.NewReader(script)
	return workspace.Run(cmd)
}
