package deploy

import (
	"context"
	"errors"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/lint"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// origin is where an operating system comes from, opened: nothing but its
// description has been read.
type origin interface {
	// about returns what is known before anything is fetched: reference,
	// manifest digest, version, architecture, layers; of what lies on this
	// machine, everything.
	about() deployment.Record
	// estimate returns what will be needed at most, as far as can be told
	// beforehand, in a store or, with nil, in an empty one.
	estimate(ctx context.Context, s *store.Store) (need, error)
	// toFetch returns how many layers a store knows, and how many bytes of the
	// others are to be fetched.
	toFetch(s *store.Store) (known int, size int64)
	// fetch puts everything into the store.
	fetch(ctx context.Context, n *Node) (*contents, Fetched, error)
	// digest computes the image digest. Nothing is written anywhere.
	digest(ctx context.Context, report func(done, total int64)) (fsverity.Digest, error)
	// examine returns what lint looks at, with the contents that it opens in keep.
	examine(ctx context.Context, keep *lint.Keep, report func(done, total int64)) (lint.Image, error)
	// check reads everything from end to end, if it lies on this machine, and
	// returns what it reaches. Errors: errElsewhere.
	check(ctx context.Context) (store.Live, error)
	Close() error
}

// need is how much room something takes, in bytes.
type need struct {
	store int64
	boot  int64 // on the ESP; 0 when it is not known
	exact bool  // whether these are more than an estimate
	// files are the boot files, as far as they are known: without digest and
	// path where only their sizes are.
	files []deployment.File
}

// errElsewhere says that an image is not a deployment on this machine.
var errElsewhere = errors.New("it is not a deployment in a store of this machine")

// Fetched counts what was fetched.
type Fetched struct {
	Bytes         int64 `json:"bytes_fetched"`
	Requests      int64 `json:"requests"` // for blobs of layers
	LayersFetched int   `json:"layers_fetched"`
	LayersPartial int   `json:"layers_partial"` // of those fetched
	LayersReused  int   `json:"layers_reused"`
	FilesReused   int   `json:"files_reused"` // of layers: contents that were here
	BytesReused   int64 `json:"bytes_reused"` // of content
}

func openOrigin(ctx context.Context, given string, opts source.Options) (origin, error) {
	src, err := source.Parse(given)
	if err != nil {
		return nil, err
	}
	warnUnsigned(src, opts.Log)
	switch src.Kind {
	case source.KindTree:
		return plainTree{src, opts}, nil
	case source.KindStore:
		return openStored(src)
	}
	img, err := source.Open(ctx, given, opts)
	if err != nil {
		return nil, err
	}
	return &container{Image: img}, nil
}

func (f *Fetched) add(more Fetched) {
	f.Bytes += more.Bytes
	f.Requests += more.Requests
	f.LayersFetched += more.LayersFetched
	f.LayersPartial += more.LayersPartial
	f.LayersReused += more.LayersReused
	f.FilesReused += more.FilesReused
	f.BytesReused += more.BytesReused
}
