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

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

// Stored is a file of the store.
type Stored struct {
	Digest fsverity.Digest
	Size   int64 // length in bytes
	Used   int64 // what it takes on the disk, in bytes
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
			if !yield(Stored{digest, st.Size, st.Blocks * 512}, nil) {
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
}

// Sweep removes what is not live.
func (s *Store) Sweep(live Live, dryRun bool) (swept Swept, err error) {
	remove := func(name string) error {
		if dryRun {
			return nil
		}
		return ignoreNotExist(s.root.Remove(name))
	}
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
		if _, keep := live.Objects[f.Digest]; err == nil && !keep {
			err = remove(ObjectPath(f.Digest))
			swept.Objects++
			swept.Bytes += f.Used
			s.forget(f.Digest)
		}
		if err != nil {
			return swept, fmt.Errorf("remove objects: %w", err)
		}
	}
	return swept, s.sweepLayers(live, remove, &swept)
}

func (s *Store) forget(d fsverity.Digest) {
	s.mu.Lock()
	delete(s.known, d)
	s.mu.Unlock()
}

func (s *Store) sweepLayers(live Live, remove func(string) error, swept *Swept) error {
	dir, err := s.root.Open(layersDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list layers: %w", err)
	}
	for _, name := range names {
		if _, keep := live.Layers["sha256:"+name]; keep || strings.HasPrefix(name, ".") && !atomicfile.IsTemp(name) {
			continue
		}
		if err := remove(path.Join(layersDir, name)); err != nil {
			return fmt.Errorf("remove layer: %w", err)
		}
		swept.Layers++
	}
	return nil
}
