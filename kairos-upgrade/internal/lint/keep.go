package lint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Keep is a layer.Objects that keeps what Check opens: contents that begin as a
// kernel, an initrd or a list of modules does, in files without a name. Of all
// others it computes the digest alone.
type Keep struct {
	dir string

	mu    sync.Mutex
	files map[fsverity.Digest]*os.File
	size  int64
}

// maxKept bounds what is kept: an image with more than that in kernels and
// initrds is refused.
const maxKept = 2 << 30

// NewKeep returns a Keep whose files lie in a directory. The caller must close it.
func NewKeep(dir string) *Keep { return &Keep{dir: dir, files: map[fsverity.Digest]*os.File{}} }

// kept are the first bytes of contents that are kept.
var kept = [][]byte{
	[]byte("MZ"), []byte("07070"), {0x1f, 0x8b}, {0x28, 0xb5, 0x2f, 0xfd}, {0xfd, '7', 'z', 'X', 'Z'}, []byte("BZh"),
	{0x02, 0x21, 0x4c, 0x18}, {0x04, 0x22, 0x4d, 0x18}, {0x5d, 0, 0}, []byte("kernel/"),
}

// minInitrd is less than any initrd with kairos-root takes: smaller compressed
// files are manual pages.
const minInitrd = 256 << 10

func keeps(begin []byte, size int64) bool {
	for _, magic := range kept {
		if bytes.HasPrefix(begin, magic) {
			return size >= minInitrd || bytes.HasPrefix(begin, []byte("kernel/"))
		}
	}
	return false
}

// Put implements layer.Objects.
func (k *Keep) Put(ctx context.Context, r io.Reader, size int64) (fsverity.Digest, error) {
	begin := make([]byte, 8)
	n, err := io.ReadFull(r, begin)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return fsverity.Digest{}, err
	}
	r = io.MultiReader(bytes.NewReader(begin[:n]), r)
	if !keeps(begin[:n], size) {
		return layer.Discard.Put(ctx, r, size)
	}
	if err := k.reserve(size); err != nil {
		return fsverity.Digest{}, err
	}
	f, err := os.CreateTemp(k.dir, "kairos-lint-")
	if err != nil {
		return fsverity.Digest{}, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return fsverity.Digest{}, errors.Join(err, f.Close())
	}
	d, err := layer.Discard.Put(ctx, io.TeeReader(r, f), size)
	if err != nil {
		return fsverity.Digest{}, errors.Join(err, f.Close())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files[d] != nil {
		return d, f.Close()
	}
	k.files[d] = f
	return d, nil
}

func (k *Keep) reserve(size int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.size += size; k.size > maxKept {
		return fmt.Errorf("kernels and initrds take more than %d bytes", int64(maxKept))
	}
	return nil
}

// Has implements layer.Objects.
func (k *Keep) Has(d fsverity.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.files[d] != nil
}

// Sink is Put for a directory.
func (k *Keep) Sink(ctx context.Context) tree.Sink {
	return func(content io.Reader, size int64) (fsverity.Digest, error) { return k.Put(ctx, content, size) }
}

// Open opens a content that was kept. Others are not there: os.ErrNotExist.
func (k *Keep) Open(n *tree.Inode) (File, error) {
	if !n.HasObject() {
		return inline{bytes.NewReader([]byte(n.Content))}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.files[n.Digest]
	if f == nil {
		return nil, fmt.Errorf("content %s: %w", n.Digest, os.ErrNotExist)
	}
	return window{io.NewSectionReader(f, 0, n.Size)}, nil
}

// Close removes what was kept.
func (k *Keep) Close() error {
	var errs []error
	for _, f := range k.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

type inline struct{ *bytes.Reader }

func (inline) Close() error { return nil }

type window struct{ *io.SectionReader }

func (window) Close() error { return nil }
