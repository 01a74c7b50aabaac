package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/kairos-io/toolkit/lib/deployment"
	digest "github.com/opencontainers/go-digest"
)

// An interrupted staging leaves things for the next one: objects and layers
// that have arrived, which no record reaches yet, and in partial/ what has
// arrived of large blobs. The file partial/since is as old as the transfer: what
// is younger is not garbage, for as long as staleAfter.
const (
	partialDir = "partial"
	sinceFile  = partialDir + "/since"
)

// staleAfter is how long an interrupted transfer is kept for.
const staleAfter = 7 * 24 * time.Hour

// BeginTransfer says that contents come in which no record reaches yet. It
// goes on with one that was interrupted. What this process has written before
// stays, whatever becomes of the transfer: Drop and Undo don't touch it.
func (s *Store) BeginTransfer() error {
	if err := s.Commit(context.Background()); err != nil {
		return fmt.Errorf("begin transfer: %w", err)
	}
	s.mu.Lock()
	s.added, s.images, s.saved = nil, nil, nil
	s.mu.Unlock()
	if _, ok := s.interrupted(); ok {
		return nil
	}
	if err := s.EndTransfer(); err != nil {
		return err
	}
	err := s.root.WriteFile(sinceFile, nil, 0o644)
	if err != nil {
		return fmt.Errorf("begin transfer: %w", err)
	}
	return nil
}

// EndTransfer forgets the transfer: what no record reaches is garbage.
func (s *Store) EndTransfer() error {
	return s.removeNames(partialDir, func(string) bool { return true })
}

// interrupted returns when a transfer began that is to go on. One that began in
// the future, by a clock that was wrong, is none.
func (s *Store) interrupted() (since time.Time, ok bool) {
	info, err := s.root.Lstat(sinceFile)
	if err != nil {
		return time.Time{}, false
	}
	age := time.Since(info.ModTime())
	return info.ModTime(), age >= 0 && age < staleAfter
}

// OpenPartial opens the file that keeps what has arrived of a blob.
func (s *Store) OpenPartial(d digest.Digest) (*os.File, error) {
	name, err := partialPath(d)
	if err != nil {
		return nil, err
	}
	return s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
}

// RemovePartial removes it.
func (s *Store) RemovePartial(d digest.Digest) error {
	name, err := partialPath(d)
	if err != nil {
		return err
	}
	return ignoreNotExist(s.root.Remove(name))
}

func partialPath(d digest.Digest) (string, error) {
	hex, err := deployment.ParseDigest(d.String())
	if err != nil {
		return "", fmt.Errorf("blob: %w", err)
	}
	return path.Join(partialDir, hex), nil
}

// sweepPartial removes a transfer that is not to go on.
func (s *Store) sweepPartial(remove func(string) error, swept *Swept) error {
	names, err := s.names(partialDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = path.Join(partialDir, name)
		info, err := s.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = remove(name)
			swept.Bytes += info.Size()
		}
		if err != nil {
			return fmt.Errorf("remove interrupted transfer: %w", err)
		}
	}
	return nil
}
