package image

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-root/internal/mount"
)

// Root is an image that is mounted as the root of a system, read-only.
type Root struct {
	Tree *mount.Tree // not attached yet
	// Added are the mount points that the image lacks and that were added as
	// empty directories.
	Added []string
}

// CreateRoot makes the root file system of an image whose metadata is mounted
// at dir. objects is the store's directory of contents. aside is an empty
// directory that is used while the root is made.
func (im *Image) CreateRoot(dir, objects, aside string) (Root, error) {
	names, err := missing(dir)
	if err != nil {
		return Root{}, err
	}
	overlay := Overlay{Lower: []string{dir}, Objects: objects, Verity: im.Verity}
	if len(names) > 0 {
		// Up to Linux 6.14 a layer must be attached while an overlay is made of it.
		layer, err := skeleton(dir, names)
		if err != nil {
			return Root{}, err
		}
		if err := layer.AttachAt(aside); err != nil {
			return Root{}, err
		}
		defer mount.Detach(aside)
		overlay.Lower = append([]string{aside}, overlay.Lower...)
	}
	t, err := overlay.Create(mount.ReadOnly)
	if err != nil {
		return Root{}, fmt.Errorf("mount image %s: %w", im.file.Name(), err)
	}
	return Root{t, names}, nil
}
