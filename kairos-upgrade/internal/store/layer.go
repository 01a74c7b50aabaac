package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/layer"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// layerPath returns where the record of the layer with a DiffID lives.
func layerPath(id string) (string, error) {
	hex, err := deployment.ParseDigest(id)
	if err != nil {
		return "", fmt.Errorf("layer: %w", err)
	}
	return path.Join(layersDir, hex), nil
}

// Knows reports whether there is a record of a layer.
func (s *Store) Knows(id string) bool {
	name, err := layerPath(id)
	if err != nil {
		return false
	}
	_, err = s.root.Lstat(s.recordName(id, name))
	return err == nil
}

// recordName returns where the record of a layer, which is to have a name, is
// for now.
func (s *Store) recordName(id, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.unnamed, id) {
		return atomicfile.Temp(name)
	}
	return name
}

// Layers returns the DiffIDs of all layers that have a record.
func (s *Store) Layers() (ids []string, err error) {
	names, err := s.names(layersDir)
	for _, name := range names {
		id := "sha256:" + name
		if _, bad := layerPath(id); bad == nil {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Load returns what is known of a layer. Errors: fs.ErrNotExist,
// layer.ErrRecord. The objects that it refers to may be gone: what an image
// does not show of its layers is garbage.
func (s *Store) Load(id string) (*layer.Layer, error) {
	name, err := layerPath(id)
	if err != nil {
		return nil, err
	}
	f, err := s.root.Open(s.recordName(id, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := layer.Decode(bufio.NewReaderSize(f, 64<<10), layer.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read layer %s: %w", id, err)
	}
	return l, nil
}

// saveEvery is how long an interrupted transaction may have worked in vain. To
// make each record durable by itself would cost more writes than small layers
// have contents. A variable for tests.
var saveEvery = 5 * time.Second

// Save remembers a layer whose contents have all been put, for this process.
// The next Commit, or this call if it is time for one, keeps it for others, so
// that after an interruption it need not be fetched again. Its objects are
// durable before its record is.
func (s *Store) Save(id string, l *layer.Layer) error {
	name, err := layerPath(id)
	if err != nil {
		return err
	}
	if err := s.writeLayer(id, name, l); err != nil {
		return fmt.Errorf("save layer %s: %w", id, err)
	}
	s.mu.Lock()
	if !slices.Contains(s.unnamed, id) {
		s.unnamed = append(s.unnamed, id)
	}
	due := time.Since(s.committed) >= saveEvery
	s.mu.Unlock()
	if !due {
		return s.failure(context.Background())
	}
	return s.Commit(context.Background())
}

// writeLayer writes the record of a layer under its temporary name.
func (s *Store) writeLayer(id, name string, l *layer.Layer) error {
	if s.lender != nil {
		temp, f, err := s.createTemp()
		if err == nil {
			err = errors.Join(encode(l, f), f.Close())
		}
		if err == nil {
			err = s.lender.Layer(number(temp), id)
		}
		return err
	}
	f, err := s.root.OpenFile(atomicfile.Temp(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(encode(l, f), f.Close())
}

// nameLayers gives the records of layers their names. What they refer to is
// durable, and so are they.
func (s *Store) nameLayers(ids []string) error {
	for _, id := range ids {
		name, err := layerPath(id)
		if err == nil {
			err = s.root.Rename(atomicfile.Temp(name), name)
		}
		if err != nil {
			return fmt.Errorf("save layer %s: %w", id, err)
		}
		s.mu.Lock()
		s.unnamed = slices.DeleteFunc(s.unnamed, func(other string) bool { return other == id })
		s.saved = append(s.saved, id)
		s.mu.Unlock()
	}
	return nil
}

func encode(l *layer.Layer, w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	return errors.Join(l.Encode(out), out.Flush())
}

// Undo removes what this process has written and no record reaches: objects,
// images and layers, so that the store is as it was.
func (s *Store) Undo() error {
	s.mu.Lock()
	s.unnamed = nil // emptyTmp removes them
	s.mu.Unlock()
	_ = s.Commit(context.Background()) // its failure is why we are here
	_, err := s.Drop(func(fsverity.Digest) bool { return false })
	s.mu.Lock()
	images, layers := s.images, s.saved
	s.images, s.saved = nil, nil
	s.mu.Unlock()
	for _, d := range images {
		err = errors.Join(err, ignoreNotExist(s.root.Remove(ImagePath(d))))
	}
	for _, id := range layers {
		name, _ := layerPath(id)
		err = errors.Join(err, ignoreNotExist(s.root.Remove(name)))
	}
	return errors.Join(err, s.EndTransfer(), s.emptyTmp())
}
