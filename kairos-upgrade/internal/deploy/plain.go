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

// estimate adds up all files, whether or not the store has them.
func (t plainTree) estimate(context.Context, *store.Store) (sum int64, err error) {
	err = filepath.WalkDir(t.src.Path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += onDisk(info.Size())
		}
		return err
	})
	return sum, err
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
	c, err := assemble(ctx, n.Store, root)
	return c, Fetched{}, useless(err)
}
