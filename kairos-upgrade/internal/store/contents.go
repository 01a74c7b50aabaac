package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Tables of contents of layers name files by plain SHA-256, objects are named
// by their fs-verity digest, and neither can be computed from the other. The
// file contents says which belong together:
//
//	contents = contentsMagic entry* sha256
//	entry    = sha256 of the content, fs-verity digest of the object
//
// Entries stand in strictly ascending order; the last sha256 is that of
// everything before it, because a flipped bit would put a wrong file into an
// image. The file is derived from the objects: what is missing or damaged is
// made again from them, and an entry counts only if its object is there.
const (
	contentsFile  = "contents"
	contentsMagic = "kairos-contents 1\n"
	maxContents   = 1 << 21 // entries, 128 MiB
)

// Sum is the plain SHA-256 of a content.
type Sum = [sha256.Size]byte

// indexEntry is one entry.
type indexEntry struct {
	sum    Sum
	digest fsverity.Digest
}

const indexEntrySize = sha256.Size + fsverity.Size

func (c indexEntry) compare(o indexEntry) int { return bytes.Compare(c.sum[:], o.sum[:]) }

// entryBlock is how many entries are remembered in one piece: a slice that
// grows would take more than twice their size for a while.
const entryBlock = 1024

// learn remembers which content an object has, for saveContents.
func (s *Store) learn(sum Sum, d fsverity.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.learnt) - 1
	if last < 0 || len(s.learnt[last]) == entryBlock {
		s.learnt = append(s.learnt, make([]indexEntry, 0, entryBlock))
		last++
	}
	s.learnt[last] = append(s.learnt[last], indexEntry{sum, d})
}

// Contents are the contents of a store by plain SHA-256, as they were when the
// store was asked.
type Contents struct {
	store   *Store
	entries []indexEntry
	inline  map[Sum]string
}

// Object returns the object with a content of size bytes, if it is present and
// whole.
func (c *Contents) Object(sum Sum, size int64) (fsverity.Digest, bool) {
	i, ok := slices.BinarySearchFunc(c.entries, indexEntry{sum: sum}, indexEntry.compare)
	if !ok {
		return fsverity.Digest{}, false
	}
	d := c.entries[i].digest
	if have, err := c.store.objectSize(d); err != nil || have != size || !c.store.Has(d) {
		return fsverity.Digest{}, false
	}
	return d, true
}

// Inline returns a content that is too small for an object and that a known
// layer has.
func (c *Contents) Inline(sum Sum) (string, bool) {
	content, ok := c.inline[sum]
	return content, ok
}

// Empty reports whether nothing is here.
func (c *Contents) Empty() bool { return len(c.entries) == 0 && len(c.inline) == 0 }

// Contents returns what the store has. Objects that the index doesn't know,
// which a writer left that was killed, are read once: that costs less than to
// fetch them again.
func (s *Store) Contents(ctx context.Context) (*Contents, error) {
	c := &Contents{store: s, inline: make(map[Sum]string)}
	present, err := s.present()
	if err == nil {
		c.entries, err = s.indexed(ctx, present)
	}
	if err == nil {
		err = s.addInline(ctx, c.inline)
	}
	if err != nil {
		return nil, fmt.Errorf("look for contents in the store: %w", err)
	}
	return c, nil
}

// present returns the digests of all objects, in order.
func (s *Store) present() ([]fsverity.Digest, error) {
	var present []fsverity.Digest
	for f, err := range s.Objects() {
		if err != nil {
			return nil, err
		}
		present = append(present, f.Digest)
	}
	slices.SortFunc(present, compareDigests)
	return present, nil
}

func compareDigests(a, b fsverity.Digest) int { return bytes.Compare(a[:], b[:]) }

// indexed returns the entries of all present objects: those that are known,
// and those of the others after reading them.
func (s *Store) indexed(ctx context.Context, present []fsverity.Digest) ([]indexEntry, error) {
	entries := s.knownContents(present)
	indexed := make([]bool, len(present))
	for _, e := range entries {
		i, _ := slices.BinarySearchFunc(present, e.digest, compareDigests)
		indexed[i] = true
	}
	read := len(entries)
	for i, d := range present {
		if indexed[i] {
			continue
		}
		sum, err := s.readSum(ctx, d)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil: // damaged: as if it were not there
			continue
		}
		s.learn(sum, d)
		entries = append(entries, indexEntry{sum, d})
	}
	if len(entries) > read {
		entries = sorted(entries)
	}
	return entries, nil
}

// readSum hashes an object, and checks it in the same pass.
func (s *Store) readSum(ctx context.Context, d fsverity.Digest) (sum Sum, err error) {
	f, err := s.OpenObject(d)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	plain, verity := sha256.New(), fsverity.NewHasher()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	_, err = io.CopyBuffer(onlyWriter{io.MultiWriter(plain, verity)}, onlyReader{withContext{ctx, f}}, *buf)
	if err == nil && verity.Sum() != d {
		err = fsverity.ErrMismatch
	}
	return Sum(plain.Sum(nil)), err
}

// knownContents returns what the file and this process know of the objects
// that are present, in order.
func (s *Store) knownContents(present []fsverity.Digest) []indexEntry {
	entries, _ := s.readContents() // a damaged file is as good as none
	s.mu.Lock()
	entries = slices.Grow(entries, len(s.learnt)*entryBlock)
	for _, block := range s.learnt {
		entries = append(entries, block...)
	}
	s.mu.Unlock()
	entries = slices.DeleteFunc(entries, func(e indexEntry) bool {
		_, here := slices.BinarySearchFunc(present, e.digest, compareDigests)
		return !here
	})
	return sorted(entries)
}

func sorted(entries []indexEntry) []indexEntry {
	slices.SortFunc(entries, indexEntry.compare)
	return slices.CompactFunc(entries, func(a, b indexEntry) bool { return a.sum == b.sum })
}

// addInline collects the small contents of all layers that are known.
func (s *Store) addInline(ctx context.Context, inline map[Sum]string) error {
	ids, err := s.Layers()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		l, err := s.Load(id)
		if err != nil {
			continue // damaged: it will be fetched again
		}
		for small := range l.Inline() {
			inline[sha256.Sum256([]byte(small))] = small
		}
	}
	return nil
}

// readContents reads the file.
func (s *Store) readContents() ([]indexEntry, error) {
	f, err := s.root.Open(contentsFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return decodeContents(f, info.Size())
}

var errContents = errors.New("the index of contents is damaged")

func decodeContents(r io.Reader, size int64) ([]indexEntry, error) {
	n := size - int64(len(contentsMagic)) - sha256.Size
	if n < 0 || n%indexEntrySize != 0 || n/indexEntrySize > maxContents {
		return nil, fmt.Errorf("%w: it has %d bytes", errContents, size)
	}
	sum := sha256.New()
	in := bufio.NewReaderSize(r, 64<<10)
	hashed := io.TeeReader(in, sum)
	magic := make([]byte, len(contentsMagic))
	if _, err := io.ReadFull(hashed, magic); err != nil || string(magic) != contentsMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", errContents, contentsMagic)
	}
	entries := make([]indexEntry, n/indexEntrySize)
	var raw [indexEntrySize]byte
	for i := range entries {
		if _, err := io.ReadFull(hashed, raw[:]); err != nil {
			return nil, fmt.Errorf("%w: %w", errContents, err)
		}
		copy(entries[i].sum[:], raw[:])
		copy(entries[i].digest[:], raw[sha256.Size:])
		if i > 0 && entries[i-1].compare(entries[i]) >= 0 {
			return nil, fmt.Errorf("%w: entry %d is out of order", errContents, i)
		}
	}
	want := sum.Sum(nil)
	have := make([]byte, len(want))
	if _, err := io.ReadFull(in, have); err != nil || !bytes.Equal(have, want) {
		return nil, fmt.Errorf("%w: SHA-256 is %x, want %x", errContents, have, want)
	}
	return entries, nil
}

func encodeContents(w io.Writer, entries []indexEntry) error {
	sum := sha256.New()
	buffered := bufio.NewWriterSize(w, 64<<10)
	out := io.MultiWriter(buffered, sum)
	io.WriteString(out, contentsMagic)
	for _, e := range entries {
		out.Write(e.sum[:])
		out.Write(e.digest[:])
	}
	buffered.Write(sum.Sum(nil))
	return buffered.Flush() // returns what went wrong before, too
}

// saveContents writes what this process has learnt. Entries of objects that
// are gone fall away.
func (s *Store) saveContents() error {
	s.mu.Lock()
	nothing := len(s.learnt) == 0
	s.mu.Unlock()
	if nothing {
		return nil
	}
	present, err := s.present()
	if err != nil {
		return err
	}
	entries := s.knownContents(present)
	entries = entries[:min(len(entries), maxContents)]
	r, w := io.Pipe()
	go func() { w.CloseWithError(encodeContents(w, entries)) }()
	err = atomicfile.WriteFrom(s.root, contentsFile, r, 0o644)
	r.CloseWithError(errors.New("closed"))
	if err != nil {
		return fmt.Errorf("write index of contents: %w", err)
	}
	s.mu.Lock()
	s.learnt = nil
	s.mu.Unlock()
	return nil
}

// CopyContents takes over what another store knows of contents.
func (s *Store) CopyContents(from *Store) {
	entries, _ := from.readContents() // without it, the objects are read when it is needed
	for _, e := range entries {
		s.learn(e.sum, e.digest)
	}
}

var _ layer.Known = (*Contents)(nil)
