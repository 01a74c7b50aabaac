package deploy

import (
	"context"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// plainTree is a directory that holds the root of a file system.
type plainTree struct {
	src  source.Source
	opts source.Options
}

func (t plainTree) about() deployment.Record {
	return deployment.Record{Reference: t.src.Given, Architecture: architecture(t.opts)}
}

func architecture(opts source.Options) string {
	if opts.Architecture != "" {
		return opts.Architecture
	}
	return runtime.GOARCH
}

// counted returns a sink that puts contents into the store and reports them.
func counted(ctx context.Context, n *Node) tree.Sink {
	return func(content io.Reader, size int64) (fsverity.Digest, error) {
		d, err := n.Store.Put(ctx, content, size)
		n.Progress.Add(size)
		return d, err
	}
}

func (t plainTree) Close() error { return nil }

// toFetch is nothing: the files are here.
func (t plainTree) toFetch(*store.Store) (known int, size int64) { return 0, 0 }

func (t plainTree) check(context.Context) (store.Live, error) { return store.Live{}, errElsewhere }

func (t plainTree) digest(ctx context.Context, _ func(done, total int64)) (d fsverity.Digest, err error) {
	root, err := tree.FromDir(ctx, t.src.Path, tree.Hash)
	if err != nil {
		return d, err
	}
	return digestOf(root)
}

// estimate adds up all files, whether or not the store has them.
func (t plainTree) estimate(context.Context, *store.Store) (n need, err error) {
	err = filepath.WalkDir(t.src.Path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n.store += onDisk(info.Size())
		}
		return err
	})
	return n, err
}

// onDisk returns what an object takes on a disk with blocks of 4 KiB: its
// content, its Merkle tree, its inode and its name.
func onDisk(size int64) int64 {
	const block, inodeAndName = 4096, 512
	return (size+block-1)/block*block + size/128 + inodeAndName
}

func (t plainTree) fetch(ctx context.Context, n *Node) (*contents, Fetched, error) {
	n.Progress.Phase("read "+t.src.Path, 0)
	root, err := tree.FromDir(ctx, t.src.Path, counted(ctx, n))
	if err != nil {
		return nil, Fetched{}, useless(err)
	}
	c, err := n.take(ctx, root)
	return c, Fetched{}, err
}
