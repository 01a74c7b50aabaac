package deploy

import (
	"errors"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Usage is the space that a deployment takes, in bytes: whole blocks, and Merkle trees.
type Usage struct {
	Disk      int64 `json:"disk"`      // its image and objects, on the store's disk
	Shared    int64 `json:"shared"`    // that of Disk which other deployments need as well
	Exclusive int64 `json:"exclusive"` // the rest: what its removal would free
	Boot      int64 `json:"boot"`      // boot files, on the ESP
	BootOwn   int64 `json:"boot_own"`  // that of Boot which its removal would free
}

// Totals is the space that a store takes, in bytes on the disk.
type Totals struct {
	Bytes   int64 `json:"bytes"` // objects and images
	Objects int   `json:"objects"`
	Images  int   `json:"images"`
	Garbage int64 `json:"garbage"` // that of Bytes which no deployment needs
}

// Usages is the space that deployments take, by their index, and the store.
type Usages struct {
	Deployments []Usage
	Totals
	// Unreadable is the error about unreadable images, whose sizes are too small.
	Unreadable error
}

// several is the owner of what more than one deployment needs, nobody of what
// none does.
const (
	several = -2
	nobody  = -1
)

// stake is an object or an image, and who needs it.
type stake struct {
	used  int64 // bytes on the disk
	owner int   // index of a deployment
}

func (s *stake) claim(by int) {
	switch s.owner {
	case nobody:
		s.owner = by
	case by:
	default:
		s.owner = several
	}
}

// Usage measures what deployments take, and the store: one walk over its
// objects, one pass over each image.
func (n *Node) Usage(list []Deployment) (all Usages, err error) {
	objects, images := map[fsverity.Digest]*stake{}, map[fsverity.Digest]*stake{}
	for f, e := range n.Store.Objects() {
		if e != nil {
			return all, e
		}
		objects[f.Digest] = &stake{f.Used, nobody}
	}
	for f, e := range n.Store.Images() {
		if e != nil {
			return all, e
		}
		images[f.Digest] = &stake{f.Used, nobody}
	}
	usage := make([]Usage, len(list))
	all.Deployments = usage
	needs := make([]map[*stake]struct{}, len(list))
	records := make([]deployment.Record, len(list))
	for i := range list {
		records[i], needs[i] = list[i].Record, map[*stake]struct{}{}
	}
	read := func(image fsverity.Digest) (*tree.Inode, error) { return readImage(n.Store, image) }
	for r, err := range reach(records, read) {
		all.Unreadable = errors.Join(all.Unreadable, err)
		s := objects[r.digest]
		if r.image {
			s = images[r.digest]
		}
		if s == nil { // it is missing, which verify says
			continue
		}
		for _, i := range r.by {
			needs[i][s] = struct{}{}
			s.claim(i)
		}
	}
	for i := range list {
		for s := range needs[i] {
			usage[i].Disk += s.used
			if s.owner == i {
				usage[i].Exclusive += s.used
			}
		}
		usage[i].Shared = usage[i].Disk - usage[i].Exclusive
	}
	bootUsage(list, usage)
	for _, kind := range []map[fsverity.Digest]*stake{objects, images} {
		for _, s := range kind {
			all.Bytes += s.used
			if s.owner == nobody {
				all.Garbage += s.used
			}
		}
	}
	all.Objects, all.Images = len(objects), len(images)
	return all, nil
}

// bootUsage does the same for boot files, which are shared by their names.
func bootUsage(list []Deployment, usage []Usage) {
	files := map[string]*stake{}
	for i, d := range list {
		for _, f := range d.Boot {
			s := files[f.Path]
			if s == nil {
				s = &stake{f.Size, nobody}
				files[f.Path] = s
			}
			s.claim(i)
		}
	}
	for i, d := range list {
		for _, f := range d.Boot {
			usage[i].Boot += f.Size
			if files[f.Path].owner == i {
				usage[i].BootOwn += f.Size
			}
		}
	}
}
