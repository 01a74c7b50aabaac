package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/deployment"
)

// Records returns the records of the store.
func (s *Store) Records() deployment.Records { return deployment.ReadAll(s.root) }

// PutRecord writes a record and makes it durable, with everything written
// before it.
func (s *Store) PutRecord(r deployment.Record) error {
	if err := errors.Join(s.Commit(context.Background()), s.Sync()); err != nil {
		return fmt.Errorf("write record %s: %w", r.ID, err)
	}
	return s.writeJSON(deployment.Path(r.ID), r)
}

// RemoveRecord removes a record and makes that durable. Its image and objects
// are garbage from then on, unless others reach them.
func (s *Store) RemoveRecord(id string) error { return s.remove(deployment.Path(id)) }

// PutQuarantine records that a manifest digest failed. The first reason
// stands: what comes later is a consequence. Only a verdict outweighs none, and
// any failure that somebody discarded it.
func (s *Store) PutQuarantine(q deployment.Quarantine) (added bool, err error) {
	name, err := deployment.QuarantinePath(q.ManifestDigest)
	if err != nil {
		return false, err
	}
	old, err := deployment.Quarantined(s.root, q.ManifestDigest)
	if err != nil {
		return false, err
	}
	if q.Cause == deployment.NoVerdict {
		q.Attempts = 1
	}
	switch {
	case old == nil:
	case old.Cause == deployment.Failed, q.Cause == deployment.Discarded:
		return false, nil
	case old.Cause == deployment.NoVerdict && q.Cause == deployment.NoVerdict:
		if old.Deployment == q.Deployment {
			return false, nil
		}
		q.Attempts += old.Attempts
	}
	return true, s.writeJSON(name, q)
}

// RemoveQuarantine takes a manifest digest out of quarantine, and reports
// whether it was there.
func (s *Store) RemoveQuarantine(manifestDigest string) (bool, error) {
	name, err := deployment.QuarantinePath(manifestDigest)
	if err != nil {
		return false, err
	}
	if _, err := s.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, s.remove(name)
}

// NextSerial gives out a serial higher than all before, and higher than those
// of the records and of used, in case the file with the last one was lost. It
// is durable when this returns: no serial is given twice.
func (s *Store) NextSerial(used ...uint64) (uint64, error) {
	var last uint64
	data, err := s.root.ReadFile(serialFile)
	if err == nil {
		last, err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 63)
		if err != nil {
			last = 0 // damaged: the records know
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read serial: %w", err)
	}
	for _, r := range s.Records().Readable { // damaged ones count by their names
		last = max(last, r.Serial)
	}
	for _, n := range used {
		last = max(last, n)
	}
	next := last + 1
	if err := atomicfile.Write(s.root, serialFile, fmt.Appendln(nil, next), 0o644); err != nil {
		return 0, fmt.Errorf("write serial: %w", err)
	}
	return next, nil
}

func (s *Store) writeJSON(name string, v any) error {
	if err := atomicfile.WriteJSON(s.root, name, v, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (s *Store) remove(name string) error {
	if err := ignoreNotExist(s.root.Remove(name)); err != nil {
		return err
	}
	dir, _, _ := strings.Cut(name, "/")
	return atomicfile.SyncDir(s.root, dir)
}
