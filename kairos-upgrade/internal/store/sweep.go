package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// Stored is a file of the store.
type Stored struct {
	Digest fsverity.Digest
	Size   int64 // length in bytes
	Used   int64 // what it takes on the disk, in bytes
	Time   time.Time
}

// Objects yields all objects by directory. Files whose names are no digests
// are passed over.
func (s *Store) Objects() iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		for i := range 256 {
			shard := hex.EncodeToString([]byte{byte(i)})
			if !s.list(path.Join(objectsDir, shard), shard, yield) {
				return
			}
		}
	}
}

// Images yields all images.
func (s *Store) Images() iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) { s.list(imagesDir, "", yield) }
}

// list yields the files of one directory whose names complete prefix to a
// digest.
func (s *Store) list(dir, prefix string, yield func(Stored, error) bool) bool {
	d, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(Stored{}, err)
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			digest, err := fsverity.Parse(prefix + name)
			if err != nil {
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				if err != unix.ENOENT && !yield(Stored{}, fmt.Errorf("%s/%s: %w", dir, name, err)) {
					return false
				}
				continue
			}
			if !yield(Stored{digest, st.Size, st.Blocks * 512, time.Unix(st.Mtim.Unix())}, nil) {
				return false
			}
		}
		if err == io.EOF {
			return true
		}
		if err != nil {
			return yield(Stored{}, err)
		}
	}
}

// Swept says what a sweep removed, or would remove.
type Swept struct {
	Objects int   `json:"objects"`
	Images  int   `json:"images"`
	Layers  int   `json:"layers"`
	Bytes   int64 `json:"bytes"` // on the disk
}

// Live says what a sweep must keep.
type Live struct {
	Objects map[fsverity.Digest]struct{}
	Images  map[fsverity.Digest]struct{}
	Layers  map[string]struct{} // DiffIDs
	// Interrupted keeps what an interrupted transfer has left, for the next
	// one to go on with.
	Interrupted bool
}

// Sweep removes what is not live.
func (s *Store) Sweep(live Live, dryRun bool) (swept Swept, err error) {
	remove := func(name string) error {
		if dryRun {
			return nil
		}
		return ignoreNotExist(s.root.Remove(name))
	}
	since, interrupted := s.interrupted()
	interrupted = interrupted && live.Interrupted
	for f, err := range s.Images() {
		if _, keep := live.Images[f.Digest]; err == nil && !keep {
			err = remove(ImagePath(f.Digest))
			swept.Images++
			swept.Bytes += f.Used
		}
		if err != nil {
			return swept, fmt.Errorf("remove images: %w", err)
		}
	}
	for f, err := range s.Objects() {
		_, keep := live.Objects[f.Digest]
		if keep = keep || interrupted && !f.Time.Before(since); err == nil && !keep {
			err = remove(ObjectPath(f.Digest))
			swept.Objects++
			swept.Bytes += f.Used
			s.forget(f.Digest)
		}
		if err != nil {
			return swept, fmt.Errorf("remove objects: %w", err)
		}
	}
	if !interrupted {
		if err := s.sweepPartial(remove, &swept); err != nil {
			return swept, err
		}
		since = time.Time{}
	}
	return swept, s.sweepLayers(live, since, remove, &swept)
}

func (s *Store) forget(d fsverity.Digest) {
	s.mu.Lock()
	delete(s.known, d)
	s.mu.Unlock()
}

// names lists a directory of the store.
func (s *Store) names(dir string) ([]string, error) {
	d, err := s.root.Open(dir)
	if err != nil {
		return nil, ignoreNotExist(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	return names, nil
}

// sweepLayers removes the records that are not live, and are older than since if
// that is not zero.
func (s *Store) sweepLayers(live Live, since time.Time, remove func(string) error, swept *Swept) error {
	names, err := s.names(layersDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, keep := live.Layers["sha256:"+name]; keep || strings.HasPrefix(name, ".") && !atomicfile.IsTemp(name) {
			continue
		}
		if !since.IsZero() {
			if info, err := s.root.Lstat(path.Join(layersDir, name)); err == nil && !info.ModTime().Before(since) {
				continue
			}
		}
		if err := remove(path.Join(layersDir, name)); err != nil {
			return fmt.Errorf("remove layer: %w", err)
		}
		swept.Layers++
	}
	return nil
}
