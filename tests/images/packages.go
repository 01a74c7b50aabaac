package images

import (
	"context"
	"os"
	"path/filepath"
)

// DebianTree makes a copy of the Debian tree that nodes are made from, before the toolkit is in it, in
// the directory dir, and returns it.
func DebianTree(ctx context.Context, dir string, report func(string)) (string, error) {
	base, err := buildBase(ctx, report)
	if err != nil {
		return "", err
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return "", err
	}
	return root, copyTree(ctx, base.tree, root)
}

// Enter runs a shell script inside a tree, as a container build would, and returns what it prints.
func Enter(ctx context.Context, root, script string) (string, error) { return enter(ctx, root, script) }
