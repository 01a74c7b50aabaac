package unpack

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// spool keeps contents in a directory under their digests, until they are
// renamed into their places.
type spool struct {
	dir *os.Root

	mu   sync.Mutex
	next int
	have map[fsverity.Digest]bool
}

var _ layer.Objects = (*spool)(nil)

func objectName(d fsverity.Digest) string { return spoolName + "/" + d.String() }

// Put keeps a content.
func (s *spool) Put(ctx context.Context, r io.Reader, _ int64) (d fsverity.Digest, err error) {
	if err := ctx.Err(); err != nil {
		return d, err
	}
	s.mu.Lock()
	s.next++
	name := fmt.Sprintf("%s/put-%d", spoolName, s.next)
	s.mu.Unlock()
	f, err := s.dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return d, err
	}
	d, _, err = fsverity.File(io.TeeReader(r, f))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = s.dir.Rename(name, objectName(d))
	}
	if err != nil {
		return d, err
	}
	s.mu.Lock()
	s.have[d] = true
	s.mu.Unlock()
	return d, nil
}

// Has reports whether a content is kept.
func (s *spool) Has(d fsverity.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have[d]
}
