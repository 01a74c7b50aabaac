package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Kernel is fs-verity as the kernel offers it; tests bring one of their own.
type Kernel interface {
	// Enable turns fs-verity on for a file that nobody has open for writing.
	Enable(*os.File) error
	// Measure returns the digest that is enforced.
	Measure(*os.File) (fsverity.Digest, error)
}

type kernel struct{}

func (kernel) Enable(f *os.File) error                     { return fsverity.Enable(f) }
func (kernel) Measure(f *os.File) (fsverity.Digest, error) { return fsverity.Measure(f) }

// deferred is the fs-verity of a store whose files get it when they are written
// to the file system of a medium. Until then, reading tells what they are.
type deferred struct{}

func (deferred) Enable(*os.File) error { return nil }

func (deferred) Measure(f *os.File) (fsverity.Digest, error) {
	d, _, err := fsverity.File(io.NewSectionReader(f, 0, math.MaxInt64))
	return d, err
}

// Store is an opened store. A Store from Open only reads.
type Store struct {
	view   *view.View
	root   *os.Root
	kernel Kernel
	verity bool
	lock   *os.File // held by a writer
	held   Holder   // as what

	shards  [256]shard
	tmp     *os.File
	own     *os.File // where a borrower writes, nil for others: tmp
	tmpName atomic.Uint64
	lender  Lender // of a borrower
	loan    string
	told    int // so many entries of learnt the lender knows

	mu         sync.Mutex
	known      map[fsverity.Digest]struct{} // present, as far as this process has looked
	distrusted map[fsverity.Digest]struct{} // present, but found damaged
	waiting    []fsverity.Digest            // written, not yet under their final names
	added      []Added
	learnt     [][]indexEntry               // for the index of contents, in blocks
	images     []fsverity.Digest            // written by this process, as saved
	saved      []string                     // ids of layers
	unnamed    []string                     // ids of layers whose records have no name yet
	committed  time.Time                    // the last Commit
	failed     error                        // the first failure of a finisher
	unfinished map[fsverity.Digest]struct{} // objects handed to the finishers
	finished   *sync.Cond                   // one of them is finished

	jobs      chan job
	finishers sync.WaitGroup
}

// Added is an object that this process has written.
type Added struct {
	Digest fsverity.Digest
	Size   int64 // bytes
}

// Open opens the store in a view for reading and takes over the view.
func Open(v *view.View) (*Store, error) { return open(v, kernel{}) }

func newStore(v *view.View, k Kernel) *Store {
	s := &Store{view: v, root: v.Root, kernel: k, known: map[fsverity.Digest]struct{}{}, committed: time.Now()}
	s.unfinished = make(map[fsverity.Digest]struct{})
	s.finished = sync.NewCond(&s.mu)
	return s
}

// OpenOrEmpty does the same, and takes what Create would make a store of for an
// empty one.
func OpenOrEmpty(v *view.View) (*Store, error) { return openChecked(v, kernel{}, mayBeStore) }

func open(v *view.View, k Kernel) (*Store, error) { return openChecked(v, k, isStore) }

func openChecked(v *view.View, k Kernel, check func(*os.Root) error) (*Store, error) {
	s := newStore(v, k)
	if err := check(s.root); err != nil {
		return nil, fmt.Errorf("open store %s: %w", v.Path, errors.Join(err, v.Close()))
	}
	s.verity = s.readVerity()
	return s, nil
}

// OpenWriter opens the store in a view for writing and takes over the view. The
// lock is held until Close. Nothing is touched where there is no store. Errors:
// ErrNoStore, *BusyError.
func OpenWriter(ctx context.Context, v *view.View, holder Holder) (*Store, error) {
	return openWriter(ctx, v, holder, kernel{}, isStore)
}

// Create does the same, and makes the store where the view is an empty
// directory or a fresh file system. Errors: ErrNoStore, *BusyError.
func Create(ctx context.Context, v *view.View, holder Holder) (*Store, error) {
	return openWriter(ctx, v, holder, kernel{}, mayBeStore)
}

// CreateDeferred does the same for a store that will be copied to a medium, and
// whose files get fs-verity there.
func CreateDeferred(ctx context.Context, v *view.View, holder Holder) (*Store, error) {
	return openWriter(ctx, v, holder, deferred{}, mayBeStore)
}

func openWriter(ctx context.Context, v *view.View, holder Holder, k Kernel, check func(*os.Root) error) (*Store, error) {
	s := newStore(v, k)
	err := check(s.root)
	if err == nil {
		err = s.prepare(ctx, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", v.Path, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) prepare(ctx context.Context, holder Holder) (err error) {
	if err := s.takeLock(ctx, holder); err != nil {
		return err
	}
	if err := s.closeToOthers(); err != nil {
		return err
	}
	for _, dir := range directories {
		if err := s.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := s.emptyTmp(); err != nil {
		return err
	}
	if s.tmp, err = s.root.Open(tmpDir); err != nil {
		return err
	}
	if s.verity, err = s.tryVerity(); err != nil {
		return err
	}
	s.startFinishers()
	return nil
}

// closeToOthers keeps everybody but the owner out of the store. Contents have no
// modes of their own in it: what only root may read in an image, a password's
// hash or a key, would be anybody's there. Stores made before that was so are
// closed now.
func (s *Store) closeToOthers() error {
	info, err := s.root.Stat(".")
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := s.root.Chmod(".", 0o700); err != nil {
		return fmt.Errorf("restrict the store to root: %w", err)
	}
	return nil
}

// Close releases the lock and the view.
func (s *Store) Close() error {
	s.stopFinishers()
	var err error
	if s.lock != nil {
		// After a failure, the next attempt finds what has arrived. The index
		// can be made again from the objects: a full disk is no reason to fail.
		_ = s.Commit(context.Background())
		_ = s.saveContents()
		err = errors.Join(s.emptyTmp(), s.releaseLock())
	}
	for i := range s.shards {
		s.shards[i].close()
	}
	for _, dir := range []*os.File{s.tmp, s.own} {
		if dir != nil {
			dir.Close()
		}
	}
	return errors.Join(err, s.view.Close())
}

// Verity reports whether contents are protected by fs-verity.
func (s *Store) Verity() bool { return s.verity }

// Root is the directory of the store, for the records of package deployment.
func (s *Store) Root() *os.Root { return s.root }

// View is what the store was opened in.
func (s *Store) View() *view.View { return s.view }

// TempDir is where a writer keeps large temporary files, as a path for this
// process only; "" for a reader.
func (s *Store) TempDir() string {
	if s.tmp == nil {
		return ""
	}
	return path.Join(s.view.Name(), tmpDir, s.loan)
}

// writesTo is the directory for unfinished files of this process.
func (s *Store) writesTo() *os.File {
	if s.own != nil {
		return s.own
	}
	return s.tmp
}

// Sync writes out everything of the store's file system.
func (s *Store) Sync() error {
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return atomicfile.SyncFS(dir)
}

// tryVerity finds out whether the file system has fs-verity, by enabling it.
func (s *Store) tryVerity() (bool, error) {
	const name = tmpDir + "/verity"
	if err := s.root.WriteFile(name, []byte("fs-verity"), 0o644); err != nil {
		return false, err
	}
	defer s.root.Remove(name)
	f, err := s.root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = s.kernel.Enable(f)
	if errors.Is(err, fsverity.ErrNotSupported) {
		return false, nil
	}
	return err == nil, err
}

// readVerity finds out the same without writing: on a file system that has
// fs-verity, to measure an ordinary file fails in another way.
func (s *Store) readVerity() bool {
	f, err := s.root.Open(lockFile)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = s.kernel.Measure(f)
	return errors.Is(err, fsverity.ErrNotEnabled)
}

// emptyTmp removes what an interrupted writer left.
func (s *Store) emptyTmp() error {
	err := s.removeNames(tmpDir, func(string) bool { return true })
	for _, dir := range []string{".", layersDir, deployment.QuarantineDir, deployment.Dir} {
		err = errors.Join(err, s.removeNames(dir, atomicfile.IsTemp))
	}
	return err
}

// removeNames removes those names of a directory that match.
func (s *Store) removeNames(dir string, match func(string) bool) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return ignoreNotExist(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		if match(name) {
			err = errors.Join(err, s.root.RemoveAll(path.Join(dir, name)))
		}
	}
	return err
}
