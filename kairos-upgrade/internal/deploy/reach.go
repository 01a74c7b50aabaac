package deploy

import (
	"fmt"
	"iter"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/composefs"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// reached is an image or an object that deployments are made of.
type reached struct {
	image  bool
	digest fsverity.Digest
	size   int64 // of an object, in bytes
	by     []int // indices of the records that reach it by this way
}

// reach yields what records reach in a store: the objects of their boot files,
// each image once, and the objects of each image. What several ways lead to
// comes more than once. An image that read can't read comes with an error
// instead of its objects; a record whose image has no digest, with one and
// without an image.
func reach(records []deployment.Record, read func(image fsverity.Digest) (*tree.Inode, error)) iter.Seq2[reached, error] {
	return func(yield func(reached, error) bool) {
		by := map[fsverity.Digest][]int{}
		var images []fsverity.Digest // in the order of the records
		for i, r := range records {
			image, err := imageDigest(r)
			if err != nil {
				if !yield(reached{by: []int{i}}, err) {
					return
				}
				continue
			}
			if by[image] == nil {
				images = append(images, image)
			}
			by[image] = append(by[image], i)
			for d, size := range objectsOf(nil, r.Boot) {
				if !yield(reached{digest: d, size: size, by: []int{i}}, nil) {
					return
				}
			}
		}
		for _, image := range images {
			root, err := read(image)
			if !yield(reached{image: true, digest: image, by: by[image]}, err) {
				return
			}
			for d, size := range objectsOf(root, nil) {
				if !yield(reached{digest: d, size: size, by: by[image]}, nil) {
					return
				}
			}
		}
	}
}

// objectsOf yields the objects, with their sizes, that a deployment of a tree
// and of boot files needs: once for each file. The tree need not have been
// normalised: what lies where that empties directories is not needed.
func objectsOf(root *tree.Inode, boot []deployment.File) iter.Seq2[fsverity.Digest, int64] {
	return func(yield func(fsverity.Digest, int64) bool) {
		for _, f := range boot {
			if d, err := fsverity.Parse(f.Digest); err == nil && !yield(d, f.Size) {
				return
			}
		}
		if root == nil {
			return
		}
		for path, n := range root.Walk() {
			if n.HasObject() && !tree.Emptied(path) && !yield(n.Digest, n.Size) {
				return
			}
		}
	}
}

// readImage reads an image of a store.
func readImage(s *store.Store, image fsverity.Digest) (*tree.Inode, error) {
	f, err := s.OpenImage(image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	root, err := composefs.Read(f)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image, err)
	}
	return root, nil
}

// verifiedImage reads an image after comparing it with its digest.
func verifiedImage(s *store.Store, image fsverity.Digest) (*tree.Inode, error) {
	if err := s.CheckImage(image); err != nil {
		return nil, err
	}
	return readImage(s, image)
}

// live returns everything that records reach in a store. An image that cannot
// be read is an error: what it reaches is unknown, so nothing may be removed.
func live(s *store.Store, records []deployment.Record) (store.Live, error) {
	all := store.Live{
		Objects: map[fsverity.Digest]struct{}{},
		Images:  map[fsverity.Digest]struct{}{},
		Layers:  map[string]struct{}{},
	}
	read := func(image fsverity.Digest) (*tree.Inode, error) { return readImage(s, image) }
	for r, err := range reach(records, read) {
		if err != nil {
			return all, fmt.Errorf("deployment %s: %w", records[r.by[0]].ID, err)
		}
		if r.image {
			all.Images[r.digest] = struct{}{}
		} else {
			all.Objects[r.digest] = struct{}{}
		}
	}
	for _, r := range records {
		for _, l := range r.Layers {
			all.Layers[l] = struct{}{}
		}
	}
	return all, nil
}

func imageDigest(r deployment.Record) (fsverity.Digest, error) {
	hex, err := deployment.ParseDigest(r.ImageDigest)
	if err != nil {
		return fsverity.Digest{}, err
	}
	return fsverity.Parse(hex)
}
