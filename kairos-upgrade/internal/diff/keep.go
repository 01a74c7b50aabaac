package diff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Keep is a layer.Objects that names contents as a pull.Preview does, and keeps
// those that Compare reads: databases of packages, os-release and kernel
// arguments.
type Keep struct {
	known layer.Known // may be nil

	mu   sync.Mutex
	kept map[fsverity.Digest][]byte
	size int
}

// NewKeep returns a Keep that names what is known by its object.
func NewKeep(known layer.Known) *Keep { return &Keep{known: known, kept: map[fsverity.Digest][]byte{}} }

const (
	small   = 64 << 10 // bytes: looked through before it is kept
	maxKept = 64 << 20 // bytes, in all

	maxRelease = 16 << 10 // bytes of an os-release: scripts look alike
)

// wanted reports whether Compare may read a content that begins so.
func wanted(begin []byte, size int64) bool {
	text := bytes.IndexByte(begin, 0) < 0
	switch {
	case !text || size > MaxText:
		return false
	case bytes.HasPrefix(begin, []byte("Package:")): // dpkg; lists of what a repository has have no Status
		return size <= small || bytes.Contains(begin, []byte("\nStatus:"))
	case bytes.HasPrefix(begin, []byte("C:Q")), bytes.HasPrefix(begin, []byte("P:")): // apk
		return true
	}
	release := size <= maxRelease && (bytes.HasPrefix(begin, []byte("ID=")) || bytes.Contains(begin, []byte("\nID=")))
	return release || size <= small && bytes.Contains(begin, []byte("kargs"))
}

// Put implements layer.Objects.
func (k *Keep) Put(ctx context.Context, r io.Reader, size int64) (fsverity.Digest, error) {
	hash := sha256.New()
	r = io.TeeReader(r, hash)
	data := make([]byte, min(size, small))
	n, err := io.ReadFull(r, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return fsverity.Digest{}, err
	}
	data = data[:n]
	keep := wanted(data, size)
	if keep {
		rest, err := io.ReadAll(io.LimitReader(r, MaxText))
		if err != nil {
			return fsverity.Digest{}, err
		}
		data = append(data, rest...)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fsverity.Digest{}, err
	}
	if err := ctx.Err(); err != nil {
		return fsverity.Digest{}, err
	}
	sum := [sha256.Size]byte(hash.Sum(nil))
	d := fsverity.Digest(sum)
	if k.known != nil {
		if object, ok := k.known.Object(sum, size); ok {
			d = object
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if keep && k.kept[d] == nil && k.size+len(data) <= maxKept {
		k.size += len(data)
		k.kept[d] = data
	}
	return d, nil
}

// Has implements layer.Objects.
func (k *Keep) Has(d fsverity.Digest) bool { _, ok := k.Get(d); return ok }

// Get returns a content that was kept.
func (k *Keep) Get(d fsverity.Digest) ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	data, ok := k.kept[d]
	return data, ok
}

// Sink is Put for a directory.
func (k *Keep) Sink(ctx context.Context) func(io.Reader, int64) (fsverity.Digest, error) {
	return func(content io.Reader, size int64) (fsverity.Digest, error) {
		d, err := k.Put(ctx, content, size)
		if err != nil {
			err = fmt.Errorf("read: %w", err)
		}
		return d, err
	}
}
