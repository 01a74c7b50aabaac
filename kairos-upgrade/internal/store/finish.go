package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// job is an object that has been written to tmp.
type job struct {
	temp   string
	digest fsverity.Digest
	size   int64
}

// shard is one of the directories of objects, opened when it is first needed:
// finding an object costs one system call then.
type shard struct {
	mu  sync.Mutex
	dir *os.File
}

func (s *shard) close() {
	if s.dir != nil {
		s.dir.Close()
		s.dir = nil
	}
}

// startFinishers starts the goroutines that enable fs-verity on what was
// written: the kernel reads and hashes it while the next contents arrive.
func (s *Store) startFinishers() {
	s.jobs = make(chan job, 256)
	for range min(4, max(2, runtime.NumCPU())) {
		s.finishers.Go(func() {
			for j := range s.jobs {
				s.note(j, s.complete(j))
			}
		})
	}
}

func (s *Store) stopFinishers() {
	if s.jobs == nil {
		return
	}
	close(s.jobs)
	s.finishers.Wait()
	s.jobs = nil
}

// finish hands a written object over. From here on it counts as present.
func (s *Store) finish(j job) error {
	s.mu.Lock()
	_, twice := s.known[j.digest]
	s.known[j.digest] = struct{}{}
	if !twice {
		s.unfinished[j.digest] = struct{}{}
	}
	s.mu.Unlock()
	if twice { // put by two goroutines at once
		return s.removeTemp(j.temp)
	}
	s.jobs <- j
	return nil
}

func (s *Store) note(j job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unfinished, j.digest)
	s.finished.Broadcast()
	if err != nil {
		delete(s.known, j.digest)
		if s.failed == nil {
			s.failed = fmt.Errorf("write object %s: %w", j.digest, err)
		}
		return
	}
	s.added = append(s.added, Added{j.digest, j.size})
	if !s.verity {
		s.waiting = append(s.waiting, j.digest)
	}
}

// complete gives an object its name, after the kernel has vouched for it.
// Without fs-verity it gets a preliminary one, see Commit.
func (s *Store) complete(j job) error {
	if !s.verity {
		return renameAt(s.tmp, j.temp, s.tmp, j.digest.String())
	}
	f, err := s.openTemp(j.temp)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.seal(f, j.digest); err != nil {
		return err
	}
	return s.name(j.temp, j.digest)
}

// seal enables fs-verity and checks that the kernel enforces what we want.
func (s *Store) seal(f *os.File, want fsverity.Digest) error {
	if err := s.kernel.Enable(f); err != nil {
		return err
	}
	have, err := s.kernel.Measure(f)
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("%w: the kernel measures %s", fsverity.ErrMismatch, have)
	}
	return nil
}

// name moves a finished file from tmp to its place in objects.
func (s *Store) name(temp string, d fsverity.Digest) error {
	dir, err := s.shard(d, true)
	if err != nil {
		return err
	}
	return renameAt(s.tmp, temp, dir, d.String()[2:])
}

// Commit waits until all objects that were put, and the records of layers that
// were saved, are present under their names, and returns the first failure. It
// does not make the names durable; Sync does.
func (s *Store) Commit(ctx context.Context) error {
	s.mu.Lock()
	for len(s.unfinished) > 0 {
		s.finished.Wait()
	}
	s.mu.Unlock()
	if err := s.failure(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	if s.lender != nil {
		s.waiting = nil
		s.committed = time.Now()
		s.mu.Unlock()
		return s.commitLent(ctx)
	}
	waiting, layers := s.waiting, slices.Clone(s.unnamed)
	s.waiting = nil
	s.committed = time.Now()
	s.mu.Unlock()
	if len(waiting)+len(layers) == 0 {
		return nil
	}
	// A name must not become durable before its content; fs-verity alone has
	// seen to that already.
	if err := s.Sync(); err != nil {
		return err
	}
	for _, d := range waiting {
		if err := s.name(d.String(), d); err != nil {
			return fmt.Errorf("name object %s: %w", d, err)
		}
	}
	return s.nameLayers(layers)
}

func (s *Store) openObject(d fsverity.Digest) (*os.File, error) {
	dir, err := s.shard(d, false)
	if err != nil {
		return nil, err
	}
	return openAt(dir, d.String()[2:], ObjectPath(d))
}

// objectSize returns the length of an object in bytes.
func (s *Store) objectSize(d fsverity.Digest) (int64, error) {
	dir, err := s.shard(d, false)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), d.String()[2:], &st, unix.AT_SYMLINK_NOFOLLOW)
	return st.Size, err
}

// shard returns the directory of an object.
func (s *Store) shard(d fsverity.Digest, create bool) (*os.File, error) {
	sh := &s.shards[d[0]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.dir != nil {
		return sh.dir, nil
	}
	name := objectsDir + "/" + d.String()[:2]
	if create {
		if err := s.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	dir, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	sh.dir = dir
	return dir, nil
}

func renameAt(fromDir *os.File, from string, toDir *os.File, to string) error {
	if err := unix.Renameat(int(fromDir.Fd()), from, int(toDir.Fd()), to); err != nil {
		return &os.LinkError{Op: "rename", Old: fromDir.Name() + "/" + from, New: toDir.Name() + "/" + to, Err: err}
	}
	return nil
}
