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

// Digest computes the image digest of a source, sha256:HEX: what mkcomposefs
// prints for the same normalised tree. Nothing is written anywhere.
func Digest(ctx context.Context, given string, opts source.Options, bar *progress.Reporter) (string, error) {
	o, err := openOrigin(ctx, given, opts)
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", given, err)
	}
	defer o.Close()
	bar.Phase("read "+given, 0)
	var d fsverity.Digest
	switch o := o.(type) {
	case *stored: // checked against its content by tree
		if _, err = o.tree(); err == nil {
			d, err = imageDigest(o.record)
		}
	case *container:
		d, err = o.digest(ctx, bar.Set)
	case plainTree:
		var root *tree.Node
		if root, err = tree.FromDir(ctx, o.src.Path, tree.Hash); err == nil {
			d, err = digestOf(root)
		}
	}
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", given, err)
	}
	return "sha256:" + d.String(), nil
}

func (o *container) digest(ctx context.Context, report func(done, total int64)) (fsverity.Digest, error) {
	root, err := o.tree(ctx, report)
	if err != nil {
		return fsverity.Digest{}, err
	}
	return digestOf(root)
}

func digestOf(root *tree.Node) (fsverity.Digest, error) {
	if err := tree.Normalize(root, tree.NormalizeOptions{SELinux: tree.HasSELinuxPolicy(root)}); err != nil {
		return fsverity.Digest{}, err
	}
	return composefs.Write(io.Discard, root)
}
