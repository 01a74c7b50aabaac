package deploy

import (
	"context"
	"fmt"
	"io"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/composefs"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Digest computes the image digest of a source, sha256:HEX: the one that mkcomposefs
// prints for the same normalised tree. It writes nothing.
func Digest(ctx context.Context, given string, opts source.Options, bar *progress.Reporter) (string, error) {
	o, err := openOrigin(ctx, given, opts)
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", given, err)
	}
	defer o.Close()
	bar.Phase("read "+given, 0)
	d, err := o.digest(ctx, bar.Set)
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", given, err)
	}
	return "sha256:" + d.String(), nil
}

func digestOf(root *tree.Inode) (fsverity.Digest, error) {
	if err := tree.Normalize(root, tree.NormalizeOptions{SELinux: tree.HasSELinuxPolicy(root)}); err != nil {
		return fsverity.Digest{}, err
	}
	return composefs.Write(io.Discard, root)
}
