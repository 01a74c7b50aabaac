package image

import (
	"fmt"

	"github.com/kairos-io/toolkit/lib/mount"
)

// Root is the read-only root file system of an image.
type Root struct {
	Tree *mount.Tree // the mount, not attached yet
	// Added are the mount points that the image lacks and that CreateRoot added as
	// empty directories.
	Added []string
}

// CreateRoot creates the root file system of an image whose metadata is mounted at dir.
// objects is the store's directory of contents, aside an empty directory for temporary
// use.
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
