package deploy

import (
	"context"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// origin is where an operating system comes from, opened: nothing but its
// description has been read.
type origin interface {
	// about returns what is known before anything is fetched: reference,
	// manifest digest, version, architecture, layers.
	about() deployment.Record
	// estimate returns how many bytes the store will need at most, as far as
	// can be told beforehand; 0 when unknown.
	estimate(ctx context.Context, s *store.Store) (int64, error)
	// fetch puts everything into the store.
	fetch(ctx context.Context, n *Node) (*contents, Fetched, error)
	Close() error
}

// Fetched says what a fetch took.
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
	sayUnsigned(src, opts.Log)
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
