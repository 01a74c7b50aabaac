package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/lint"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/progress"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/pull"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Lint reports whether the image of a source can boot as a node. It keeps kernels and
// initrds in unnamed files in dir, and writes nothing else. It fetches an image in a
// registry as a whole.
func Lint(ctx context.Context, given, dir string, opts source.Options, bar *progress.Reporter) ([]lint.Finding, error) {
	o, err := openOrigin(ctx, given, opts)
	if err != nil {
		return nil, fmt.Errorf("lint %s: %w", given, err)
	}
	defer o.Close()
	bar.Phase("read "+given, 0)
	keep := lint.NewKeep(dir)
	defer keep.Close()
	image, err := o.examine(ctx, keep, bar.Set)
	if err != nil {
		return nil, fmt.Errorf("lint %s: %w", given, err)
	}
	return lint.Check(image), nil
}

func (o *container) examine(ctx context.Context, keep *lint.Keep, report func(done, total int64)) (lint.Image, error) {
	root, _, err := pull.Tree(ctx, o.Image, keep, pull.Options{Progress: report})
	return lint.Image{Root: root, Open: keep.Open}, err
}

func (t plainTree) examine(ctx context.Context, keep *lint.Keep, _ func(done, total int64)) (lint.Image, error) {
	root, err := tree.FromDir(ctx, t.src.Path, keep.Sink(ctx))
	return lint.Image{Root: root, Open: keep.Open}, err
}

// examine looks at what the other store has: its image, and the boot files that
// the record names, since the image has no /boot any more.
func (o *stored) examine(_ context.Context, keep *lint.Keep, _ func(done, total int64)) (lint.Image, error) {
	root, err := o.tree()
	if err != nil {
		return lint.Image{}, err
	}
	image := lint.Image{Root: root, Boot: []boot.File{}, Open: func(n *tree.Inode) (lint.File, error) {
		if !n.HasObject() {
			return keep.Open(n)
		}
		return o.store.OpenObject(n.Digest)
	}}
	for _, f := range o.record.Boot {
		d, err := fsverity.Parse(f.Digest)
		if err != nil {
			return lint.Image{}, fmt.Errorf("boot file %s: %w", f.Path, err)
		}
		image.Boot = append(image.Boot, boot.File{Kind: f.Kind, Path: f.Path, Node: object(f.Size, d)})
	}
	return image, nil
}

// faults are what Lint would say keeps an image from booting, of a tree whose
// objects are in the store.
func (n *Node) faults(root *tree.Inode) []lint.Finding {
	inline := lint.NewKeep("") // which keeps nothing here
	found := lint.Check(lint.Image{Root: root, Open: func(node *tree.Inode) (lint.File, error) {
		if !node.HasObject() {
			return inline.Open(node)
		}
		return n.Store.OpenObject(node.Digest)
	}})
	return slices.DeleteFunc(found, func(f lint.Finding) bool { return f.Level != lint.Error })
}

// ErrCannotBoot says that an image cannot boot as a node.
var ErrCannotBoot = errors.New("the image cannot boot as a node")

// bootable refuses an image that cannot boot, in the words of Lint.
func (t *staging) bootable(c *contents) error {
	if len(c.faults) == 0 || t.req.Force {
		return nil
	}
	var lines []string
	for _, f := range c.faults {
		lines = append(lines, fmt.Sprintf("%s: %v", f.Level, f))
	}
	return exit.Details(ErrCannotBoot, lines...)
}

// object is a node whose content is an object, however small it is: boot files.
func object(size int64, d fsverity.Digest) *tree.Inode {
	return tree.NewFile(0o644, max(size, tree.InlineMax+1), d)
}
