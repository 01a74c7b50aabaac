package store

import (
	"fmt"
	"iter"
	"maps"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Distrust makes an object that was found damaged count as absent, until it
// has been put again: what is put then replaces it by one rename, whatever
// reads the old file goes on doing so. (With fs-verity the kernel still
// measures the right digest of a file with a bad block, and the file itself
// can't be written.)
func (s *Store) Distrust(d fsverity.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, d)
	if s.distrusted == nil {
		s.distrusted = map[fsverity.Digest]struct{}{}
	}
	s.distrusted[d] = struct{}{}
}

// Distrusted yields the objects that count as absent: those that were found damaged
// and have not been put again.
func (s *Store) Distrusted() iter.Seq[fsverity.Digest] {
	s.mu.Lock()
	defer s.mu.Unlock()
	absent := maps.Clone(s.distrusted)
	maps.DeleteFunc(absent, func(d fsverity.Digest, _ struct{}) bool { _, again := s.known[d]; return again })
	return maps.Keys(absent)
}

// RemoveObject removes an object that no image names, and makes that durable.
func (s *Store) RemoveObject(d fsverity.Digest) error {
	s.forget(d)
	if err := ignoreNotExist(s.root.Remove(ObjectPath(d))); err != nil {
		return fmt.Errorf("remove object: %w", err)
	}
	return atomicfile.SyncDir(s.root, objectsDir+"/"+d.String()[:2])
}
